//! The guest's files: resolv.conf, hosts and a /sys of its own.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_bind, mount_change,
    move_mount, open_tree, unmount,
};

use super::LaunchConfig;

/// Where the files are made before they are bound over the host's: a tmpfs there is in nobody's way, /sys being
/// mounted anew right after.
const WORKSHOP: &str = "/sys";
const CGROUP: &str = "/sys/fs/cgroup";

/// Binds the guest's files over the host's. Only mount propagation must succeed; the rest are warnings.
pub(super) fn set_up(config: &LaunchConfig, warnings: &mut Vec<String>) -> io::Result<()> {
    // What is mounted here stays here; what the host unmounts goes here too, so no disk is kept busy.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let cgroup = open_tree(
        CWD,
        CGROUP,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    );
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("estab", WORKSHOP, "tmpfs", quiet, c"mode=755,size=1m") {
        Ok(()) => {
            let read = |path| std::fs::read_to_string(path).unwrap_or_default();
            let resolv = resolv_conf(&read("/etc/resolv.conf"), &config.effective_nameservers());
            if let Err(err) = replace("/etc/resolv.conf", &resolv) {
                warnings.push(format!(
                    "cannot replace /etc/resolv.conf: {err}; names may not resolve in the guest"
                ));
            }
            let hosts = hosts(&read("/etc/hosts"), &config.hosts);
            if let Err(err) = replace("/etc/hosts", &hosts) {
                warnings.push(format!(
                    "cannot replace /etc/hosts: {err}; host.estab has no name in the guest"
                ));
            }
            unmount(WORKSHOP, UnmountFlags::DETACH)?;
        }
        Err(err) => warnings.push(format!(
            "cannot mount a tmpfs: {err}; names may not resolve in the guest"
        )),
    }
    fresh_sysfs(cgroup.ok());
    Ok(())
}

/// The bind of a file keeps its tmpfs alive.
fn replace(path: &str, text: &str) -> io::Result<()> {
    let name = Path::new(path).file_name().unwrap_or_default();
    let ours = Path::new(WORKSHOP).join(name);
    std::fs::write(&ours, text)?;
    rustix::fs::chmod(&ours, 0o644.into())?;
    Ok(mount_bind(ours, path)?)
}

/// A sysfs shows the interfaces of the namespace that mounted it. It is refused where parts of the old one are
/// masked (in containers); the old one, with the host's interfaces, is good enough then.
fn fresh_sysfs(cgroup: Option<OwnedFd>) {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    let mounted = mount("sysfs", "/sys", "sysfs", flags, None);
    if let (Ok(()), Some(cgroup)) = (mounted, cgroup) {
        let _ = move_mount(cgroup, "", CWD, CGROUP, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    }
}

/// The host's resolv.conf(5) with other nameservers: search, domain, options and sortlist stay.
fn resolv_conf(host: &str, nameservers: &[IpAddr]) -> String {
    let mut text = String::from("# by estab gateway\n");
    for server in nameservers {
        // Writing to a String does not fail.
        let _ = writeln!(text, "nameserver {server}");
    }
    for line in host.lines() {
        let keyword = line.split_whitespace().next().unwrap_or_default();
        if matches!(keyword, "search" | "domain" | "options" | "sortlist") {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// The host's hosts(5) with lines of ours.
fn hosts(host: &str, added: &[(IpAddr, String)]) -> String {
    let mut text = String::from(host);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (ip, name) in added {
        let _ = writeln!(text, "{ip} {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_keeps_all_but_the_nameservers() {
        let host = "# a comment\nnameserver 127.0.0.53\nsearch a b\noptions edns0 trust-ad\n";
        let ours = resolv_conf(host, &[[10, 0, 2, 1].into()]);
        assert_eq!(
            ours,
            "# by estab gateway\nnameserver 10.0.2.1\nsearch a b\noptions edns0 trust-ad\n"
        );
    }

    #[test]
    fn hosts_are_added_behind_a_last_line_without_end() {
        let added = [([10, 0, 2, 1].into(), "gateway.estab".to_owned())];
        assert_eq!(
            hosts("127.0.0.1 localhost", &added),
            "127.0.0.1 localhost\n10.0.2.1 gateway.estab\n"
        );
        assert_eq!(hosts("", &added), "10.0.2.1 gateway.estab\n");
    }
}
