// gVisor's netstack as a subject of the comparison (see ../src/suite.rs): two stacks, each behind a channel endpoint whose
// packets a goroutine copies across, and net.Conns of gonet over them.
//
//	gvisor WORK MILLISECONDS RUNS POINT
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/bufferv2"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	clientAddr = tcpip.Address("\x0a\x00\x00\x01")
	serverAddr = tcpip.Address("\x0a\x00\x00\x02")
	firstPort  = 10000
	message    = 64
)

type plan struct {
	run  time.Duration
	runs int
}

// A host: a stack behind its link.
type host struct {
	*stack.Stack
	link *channel.Endpoint
}

// The two ends.
type ends struct {
	hosts     [2]host
	listeners []*gonet.TCPListener
	turn      int
}

func told(err tcpip.Error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.String())
}

func newHost(addr tcpip.Address, mtu uint32) (host, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		HandleLocal:        false,
	})
	sack := tcpip.TCPSACKEnabled(true)
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return host{}, told(err)
	}
	link := channel.New(256, mtu, "")
	if err := s.CreateNIC(1, link); err != nil {
		return host{}, told(err)
	}
	at := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: addr.WithPrefix()}
	if err := s.AddProtocolAddress(1, at, stack.AddressProperties{}); err != nil {
		return host{}, told(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return host{s, link}, nil
}

// Copies the packets that leave one host for the other's address to it; the others are lost.
func pump(from, to host, addr tcpip.Address) {
	for {
		packet := from.link.ReadContext(context.Background())
		if packet.IsNil() {
			return
		}
		view := packet.ToView()
		packet.DecRef()
		if data := view.AsSlice(); len(data) >= 20 && string(data[16:20]) == string(addr) {
			inject(to, data)
		}
		view.Release()
	}
}

// Gives a host a copy of a packet.
func inject(to host, data []byte) {
	packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: bufferv2.MakeWithData(data)})
	to.link.InjectInbound(ipv4.ProtocolNumber, packet)
	packet.DecRef()
}

func newEnds(mtu uint32, hold, backlog int) (*ends, error) {
	client, err := newHost(clientAddr, mtu)
	if err != nil {
		return nil, err
	}
	server, err := newHost(serverAddr, mtu)
	if err != nil {
		return nil, err
	}
	go pump(client, server, serverAddr)
	go pump(server, client, clientAddr)
	e := &ends{hosts: [2]host{client, server}}
	for port := 0; port <= hold/4000; port++ {
		var queue waiter.Queue
		ep, err := server.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
		if err != nil {
			return nil, told(err)
		}
		if err := ep.Bind(tcpip.FullAddress{NIC: 1, Addr: serverAddr, Port: uint16(firstPort + port)}); err != nil {
			return nil, told(err)
		}
		if err := ep.Listen(backlog); err != nil {
			return nil, told(err)
		}
		e.listeners = append(e.listeners, gonet.NewTCPListener(server.Stack, &queue, ep))
	}
	return e, nil
}

type conn [2]net.Conn

func (e *ends) dial(ctx context.Context) (net.Conn, *gonet.TCPListener, error) {
	turn := e.turn % len(e.listeners)
	e.turn++
	to := tcpip.FullAddress{NIC: 1, Addr: serverAddr, Port: uint16(firstPort + turn)}
	client, err := gonet.DialContextTCP(ctx, e.hosts[0].Stack, to, ipv4.ProtocolNumber)
	return client, e.listeners[turn], err
}

func (e *ends) open() (conn, error) {
	client, listener, err := e.dial(context.Background())
	if err != nil {
		return conn{}, err
	}
	server, err := listener.Accept()
	return conn{client, server}, err
}

func exchange(c conn) error {
	var out, in [message]byte
	for _, ends := range [][2]net.Conn{{c[0], c[1]}, {c[1], c[0]}} {
		if _, err := ends[0].Write(out[:]); err != nil {
			return err
		}
		for got := 0; got < message; {
			n, err := ends[1].Read(in[got:])
			if err != nil {
				return err
			}
			got += n
		}
	}
	return nil
}

func (e *ends) whole() error {
	c, err := e.open()
	if err != nil {
		return err
	}
	if err := exchange(c); err != nil {
		return err
	}
	c[0].Close()
	// The server closes when it has read the end of the stream.
	if _, err := c[1].Read(make([]byte, 1)); err == nil {
		return errors.New("read beyond the end")
	}
	c[1].Close()
	return nil
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func rss() float64 {
	runtime.GC()
	debug.FreeOSMemory()
	statm, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.Atoi(strings.Fields(string(statm))[1])
	return float64(pages * 4096)
}

func median(values []float64) float64 {
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return sorted[(len(sorted)-1)/2]
}

// Nanoseconds of CPU time that one op takes, of each run.
func (p plan) nsPerOp(op func() error) ([]float64, error) {
	if err := op(); err != nil {
		return nil, err
	}
	var all []float64
	for len(all) < p.runs {
		begin, ops := cpuTime(), 0
		for {
			for i := 0; i < 10; i++ {
				if err := op(); err != nil {
					return nil, err
				}
			}
			ops += 10
			if spent := cpuTime() - begin; spent >= p.run {
				all = append(all, float64(spent.Nanoseconds())/float64(ops))
				break
			}
		}
	}
	return all, nil
}

type sample struct {
	Work  string    `json:"work"`
	Point int       `json:"point"`
	Unit  string    `json:"unit"`
	Value *float64  `json:"value,omitempty"`
	Runs  []float64 `json:"runs,omitempty"`
	Note  string    `json:"note,omitempty"`
}

func of(work string, point int, unit string, runs []float64) sample {
	value := median(runs)
	return sample{Work: work, Point: point, Unit: unit, Value: &value, Runs: runs}
}

func bulk(mtu int, p plan) ([]sample, error) {
	const round = 1 << 20
	e, err := newEnds(uint32(mtu), 1, 1024)
	if err != nil {
		return nil, err
	}
	c, err := e.open()
	if err != nil {
		return nil, err
	}
	data := make([]byte, 64<<10)
	for i := range data {
		data[i] = byte(i % 251)
	}
	send, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		for range send {
			for sent := 0; sent < round; sent += len(data) {
				if _, err := c[0].Write(data); err != nil {
					failed <- err
				}
			}
		}
	}()
	sink := make([]byte, 64<<10)
	verify := true
	ns, err := p.nsPerOp(func() error {
		send <- struct{}{}
		for got := 0; got < round; {
			n, err := c[1].Read(sink)
			if err != nil {
				return err
			}
			for i := 0; verify && i < n; i++ {
				if sink[i] != data[(got+i)%len(data)] {
					return errors.New("bytes changed on their way")
				}
			}
			got += n
		}
		verify = false
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range ns {
		ns[i] *= 1460.0 / round
	}
	return []sample{of("bulk", mtu, "ns", ns)}, nil
}

func conns(held int, p plan) ([]sample, error) {
	e, err := newEnds(1500, held, 1024)
	if err != nil {
		return nil, err
	}
	if held == 0 {
		none := tcpip.TCPTimeWaitTimeoutOption(time.Millisecond)
		e.hosts[0].SetTransportProtocolOption(tcp.ProtocolNumber, &none)
	}
	for n := 0; n < held; n++ {
		if err := e.whole(); err != nil {
			return nil, fmt.Errorf("with %d TIME_WAITs held: %w", n, err)
		}
	}
	ns, err := p.nsPerOp(e.whole)
	if err != nil {
		return nil, err
	}
	return []sample{of("conn", held, "ns", ns)}, nil
}

func rr(n int, p plan) ([]sample, error) {
	e, err := newEnds(1500, n, 1024)
	if err != nil {
		return nil, err
	}
	all := make([]conn, n)
	for i := range all {
		if all[i], err = e.open(); err != nil {
			return nil, fmt.Errorf("with %d connections open: %w", i, err)
		}
	}
	random := rand.New(rand.NewSource(1))
	ns, err := p.nsPerOp(func() error { return exchange(all[random.Intn(n)]) })
	if err != nil {
		return nil, err
	}
	return []sample{of("rr", n, "ns", ns)}, nil
}

// A SYN to the server's first port with Linux's options and both checksums.
func syn(from uint32, port uint16, seq uint32) []byte {
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], from)
	source := tcpip.Address(addr[:])
	p := make([]byte, 60)
	ip := header.IPv4(p)
	ip.Encode(&header.IPv4Fields{TotalLength: 60, TTL: 64, Protocol: 6, SrcAddr: source, DstAddr: serverAddr})
	ip.SetChecksum(^ip.CalculateChecksum())
	segment := header.TCP(p[20:])
	segment.Encode(&header.TCPFields{SrcPort: port, DstPort: firstPort, SeqNum: seq, DataOffset: 40, Flags: header.TCPFlagSyn, WindowSize: 65535})
	copy(p[40:], []byte{2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7})
	sum := header.PseudoHeaderChecksum(6, source, serverAddr, 40)
	segment.SetChecksum(^segment.CalculateChecksum(sum))
	return p
}

func flood(syns int, p plan) ([]sample, error) {
	const clients, burst = 100, 64
	random := rand.New(rand.NewSource(7))
	foreign := make([][]byte, 64*1024)
	for i := range foreign {
		foreign[i] = syn(0x0b000000+uint32(random.Intn(1<<24)), uint16(1024+random.Intn(60000)), random.Uint32())
	}
	var costs []float64
	least := clients
	for len(costs) < p.runs {
		e, err := newEnds(1500, 1, 1024)
		if err != nil {
			return nil, err
		}
		go func() {
			for {
				server, err := e.listeners[0].Accept()
				if err != nil {
					return
				}
				go func() {
					var buf [message]byte
					server.Read(buf[:])
					server.Write(buf[:])
				}()
			}
		}()
		served := make(chan bool, clients)
		begin, start, begun := cpuTime(), time.Now(), 0
		for given := 0; given < syns; given += burst {
			for i := 0; i < burst; i++ {
				inject(e.hosts[1], foreign[(given+i)%len(foreign)])
			}
			for ; begun < clients && begun*syns <= given*clients; begun++ {
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					defer cancel()
					client, _, err := e.dial(ctx)
					if err == nil {
						client.SetDeadline(time.Now().Add(3 * time.Second))
						var buf [message]byte
						client.Write(buf[:])
						_, err = client.Read(buf[:])
					}
					served <- err == nil
				}()
			}
			// 100,000 a second.
			time.Sleep(time.Until(start.Add(time.Duration(given) * 10 * time.Microsecond)))
		}
		count := 0
		for i := 0; i < begun; i++ {
			if <-served {
				count++
			}
		}
		costs = append(costs, float64((cpuTime()-begin).Nanoseconds())/float64(syns))
		if count < least {
			least = count
		}
		e.listeners[0].Close()
	}
	return []sample{of("flood", syns, "ns", costs), of("served", syns, "count", []float64{float64(least)})}, nil
}

func memory(what string, n int) ([]sample, error) {
	e, err := newEnds(1500, n, n+1024)
	if err != nil {
		return nil, err
	}
	var kept []conn
	add := func(count int) error {
		for i := 0; i < count; i++ {
			switch what {
			case "idle":
				c, err := e.open()
				if err == nil {
					err = exchange(c)
				}
				if err != nil {
					return err
				}
				kept = append(kept, c)
			case "timewait":
				if err := e.whole(); err != nil {
					return err
				}
			default:
				inject(e.hosts[1], syn(0x0b000000+uint32(count+i), 4000, uint32(i)))
				if i%64 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
		return nil
	}
	if err := add(100); err != nil {
		return nil, err
	}
	before := rss()
	if err := add(n); err != nil {
		return nil, err
	}
	each := float64(n)
	if what == "idle" {
		each *= 2
	}
	value := (rss() - before) / each
	runtime.KeepAlive(kept)
	return []sample{of(what, n, "bytes", []float64{value})}, nil
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: gvisor WORK MILLISECONDS RUNS POINT")
		os.Exit(2)
	}
	work := os.Args[1]
	var numbers [3]int
	for i := range numbers {
		n, err := strconv.Atoi(os.Args[2+i])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		numbers[i] = n
	}
	p, point := plan{time.Duration(numbers[0]) * time.Millisecond, numbers[1]}, numbers[2]
	var samples []sample
	var err error
	switch work {
	case "bulk":
		samples, err = bulk(point, p)
	case "conn":
		samples, err = conns(point, p)
	case "rr":
		samples, err = rr(point, p)
	case "flood":
		samples, err = flood(point, p)
	case "idle", "halfopen", "timewait":
		samples, err = memory(work, point)
	default:
		err = errors.New("no such work")
	}
	if err != nil {
		samples = []sample{{Work: work, Point: point, Unit: "ns", Note: err.Error()}}
	}
	var out bytes.Buffer
	for _, s := range samples {
		json.NewEncoder(&out).Encode(s)
	}
	os.Stdout.Write(out.Bytes())
}
