//! `estab sysctl` on a running gateway's stack.

use std::io::Write;
use std::process::{Command, Stdio};

const ESTAB: &str = env!("CARGO_BIN_EXE_estab");

/// What `script` says within a gateway: standard output, then standard error.
fn within(script: &str, files: &[(&str, &str)]) -> Option<String> {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::File::create(dir.path().join(name))
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a file");
    }
    let output = Command::new(ESTAB)
        .args(["gateway", "-4", "--threads", "2", "--", "bash", "-c", script])
        .env("ESTAB", ESTAB)
        .env("DIR", dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("estab was built for this test");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{err}");
        eprintln!("skipped: {err}");
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned() + &err)
}

#[test]
fn a_file_is_applied_whole() {
    let first = "# a server's file\nnet.ipv4.tcp_syn_retries = 3  \n\nnet/ipv4/tcp_fin_timeout=15\nvm.swappiness = 10\n\
                 -net.ipv4.tcp_nonsense = 1\n; the end\n";
    let second = "net.ipv4.tcp_syn_retries = 4\n";
    let script = "$ESTAB sysctl -p $DIR/first $DIR/second && $ESTAB sysctl net.ipv4.tcp_syn_retries net.ipv4.tcp_fin_timeout \
                  && echo net.core.somaxconn=77 | $ESTAB sysctl -p - && $ESTAB sysctl -a | grep somaxconn";
    let Some(said) = within(script, &[("first", first), ("second", second)]) else {
        return;
    };
    let lines = [
        "net.ipv4.tcp_syn_retries = 3\nnet.ipv4.tcp_fin_timeout = 15\nnet.ipv4.tcp_syn_retries = 4\n",
        "net.ipv4.tcp_syn_retries = 4\nnet.ipv4.tcp_fin_timeout = 15\n",
        "net.core.somaxconn = 77\nnet.core.somaxconn = 77\n",
        "first:5: left out: vm.swappiness is the host's",
        "first:6: left out, as its - asks",
    ];
    for line in lines {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
}

#[test]
fn nothing_of_a_file_with_an_error_is_applied() {
    let file = "net.ipv4.tcp_syn_retries = 3\nnet.ipv4.tcp_fin_timout = 15\nnet.ipv4.tcp_frto_response = 1\nnet.core.somaxconn = many\n\
                sysctl -w net.ipv4.tcp_sack=0\nnet.ipv4.tcp_congestion_control = vegas\n";
    let script = "$ESTAB sysctl -p $DIR/file && echo applied; $ESTAB sysctl -w net.ipv4.tcp_syn_retries=2 net.ipv4.tcp_sack=x \
                  && echo applied; $ESTAB sysctl net.ipv4.tcp_syn_retries";
    let Some(said) = within(script, &[("file", file)]) else {
        return;
    };
    assert!(!said.contains("applied\n\n") && !said.contains("\napplied"), "{said}");
    for line in [
        "net.ipv4.tcp_syn_retries = 6\n",
        "nothing was applied",
        "file:2: no stack has net.ipv4.tcp_fin_timout (did you mean net.ipv4.tcp_fin_timeout?)",
        "file:3: net.ipv4.tcp_frto_response is gone",
        "file:4: net.core.somaxconn: not a number",
        "file:5: no setting",
        "file:6: net.ipv4.tcp_congestion_control: ",
        "-w: net.ipv4.tcp_sack: not a number",
    ] {
        assert!(said.contains(line), "no {line:?} in\n{said}");
    }
    assert!(
        !said.contains("tcp_syn_retries = 3") && !said.contains("tcp_syn_retries = 2"),
        "{said}"
    );
}
