package machine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// qmpTime bounds one command and its answer.
const qmpTime = 10 * time.Second

// qmpClient speaks QEMU's machine protocol over one end of a socket pair, so
// that there is no path, no port and nobody else at the other end. Events are
// read past; states are asked for instead.
type qmpClient struct {
	mu   sync.Mutex
	conn net.Conn
	dec  *json.Decoder
}

// newQMP makes the pair: the client and the file that QEMU inherits.
func newQMP() (*qmpClient, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making QEMU's control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "qmp"), os.NewFile(uintptr(fds[1]), "qmp-child")
	conn, err := net.FileConn(ours)
	if err := errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return &qmpClient{conn: conn, dec: json.NewDecoder(conn)}, theirs, nil
}

// qmpReply is any message from QEMU: greeting, event, return or error.
type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
}

// execute runs one command; result may be nil.
func (q *qmpClient) execute(command string, arguments, result any) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.conn.SetDeadline(time.Now().Add(qmpTime)); err != nil {
		return err
	}
	msg := map[string]any{"execute": command}
	if arguments != nil {
		msg["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(msg); err != nil {
		return fmt.Errorf("asking QEMU to %s: %w", command, err)
	}
	for {
		var reply qmpReply
		if err := q.dec.Decode(&reply); err != nil {
			return fmt.Errorf("reading QEMU's answer to %s: %w", command, err)
		}
		switch {
		case reply.Error != nil:
			return fmt.Errorf("asking QEMU to %s: %s", command, reply.Error.Desc)
		case reply.Return != nil && result != nil:
			return json.Unmarshal(reply.Return, result)
		case reply.Return != nil:
			return nil
		}
	}
}

// state is QEMU's RunState: "running", "internal-error", "guest-panicked", …
func (q *qmpClient) state() (string, error) {
	var status struct {
		Status string `json:"status"`
	}
	err := q.execute("query-status", nil, &status)
	return status.Status, err
}

// forwardedAddr is the loopback address that reaches the guest's SSH port.
// QEMU chose the port itself, so that no other program can take it first.
func (q *qmpClient) forwardedAddr() (string, error) {
	var text string
	err := q.execute("human-monitor-command", map[string]string{"command-line": "info usernet"}, &text)
	if err != nil {
		return "", err
	}
	return parseUsernet(text)
}

// parseUsernet finds the forwarding in the answer of "info usernet", whose
// columns are protocol, descriptor, source address, port, ….
func parseUsernet(text string) (string, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 4 && f[0] == "TCP[HOST_FORWARD]" && f[2] == "127.0.0.1" {
			return net.JoinHostPort(f[2], f[3]), nil
		}
	}
	return "", fmt.Errorf("QEMU forwards no port: %q", text)
}

// quit ends QEMU at once. The clone is thrown away, so nothing is lost.
func (q *qmpClient) quit() { _ = q.execute("quit", nil, nil) }

func (q *qmpClient) close() error { return q.conn.Close() }
