package shangcloudtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport returns an http.RoundTripper that sends requests for every host to the server,
// without a network. Use it in a testing/synctest bubble, because time does not advance
// there while a goroutine waits for the network. Create the server with [New] in the same
// bubble. Each [Fault] has the same effect as over a network.
func (s *Server) Transport() http.RoundTripper { return inProcess{s} }

type inProcess struct{ s *Server }

func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancel(req.Context())
	pr, pw := io.Pipe()
	w := &pipeWriter{header: make(http.Header), started: make(chan struct{}), pw: pw}
	// When the request ends, the pipe of the answer's body is closed too. This ends a read
	// or a write that is still waiting.
	stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer cancel()
		defer stop()
		serve(t.s, w, asReceived(ctx, req))
	}()

	select {
	case <-w.started:
	case <-ctx.Done():
		select {
		case <-w.started: // the answer came first
		default:
			return nil, context.Cause(ctx)
		}
	}
	if w.status == 0 {
		if err := req.Context().Err(); err != nil {
			return nil, err // the handler ended because the client gave up
		}
		return nil, io.EOF // the error of net/http if the server closes the connection
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(w.sent.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status:     strconv.Itoa(w.status) + " " + http.StatusText(w.status),
		StatusCode: w.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        w.sent,
		Body:          &pipeBody{pr, req.Context().Err, cancel},
		ContentLength: length,
		Request:       req,
	}, nil
}

// asReceived converts a client's request into the request that a server receives.
func asReceived(ctx context.Context, req *http.Request) *http.Request {
	r := req.Clone(ctx)
	r.RequestURI = req.URL.RequestURI()
	r.RemoteAddr = "127.0.0.1:0"
	if r.Host == "" {
		r.Host = req.URL.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if req.URL.Scheme == "https" {
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	}
	return r
}

// serve runs the handler and completes the answer. If the handler closes the connection,
// the body ends with an error.
func serve(h http.Handler, w *pipeWriter, r *http.Request) {
	defer r.Body.Close()
	defer func() {
		if e := recover(); e != nil {
			if e != http.ErrAbortHandler {
				panic(e)
			}
			w.pw.CloseWithError(io.ErrUnexpectedEOF)
			w.once.Do(func() { close(w.started) })
			return
		}
		w.WriteHeader(http.StatusOK)
		_ = w.pw.Close()
	}()
	h.ServeHTTP(w, r)
}

// pipeWriter writes an answer to the client.
type pipeWriter struct {
	header  http.Header
	once    sync.Once
	started chan struct{} // closed when status and sent are final
	status  int           // 0: the connection was closed before the answer
	sent    http.Header   // the header of the answer
	pw      *io.PipeWriter
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.started)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if len(p) == 0 {
		return 0, nil // the pipe would wait for a reader
	}
	return w.pw.Write(p)
}

// Flush sends the header. Write needs no flush: it returns after the client has read.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// pipeBody is the body of an answer. Close ends the request.
type pipeBody struct {
	*io.PipeReader
	err    func() error // the error of the request's context
	cancel context.CancelFunc
}

// Read returns the error of the request's context after the request has ended, like
// net/http.
func (b *pipeBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if err != nil && err != io.EOF {
		err = cmp.Or(b.err(), err)
	}
	return n, err
}

func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
