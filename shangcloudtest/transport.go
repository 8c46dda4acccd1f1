package shangcloudtest

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// Transport carries requests to the server without a network, whatever host they
// name. It is for tests in a testing/synctest bubble, where waiting for a
// network would keep time from passing: make the server with [New] in the same
// bubble. Faults work as they do over a network.
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
	// A body that is being written or read ends with the request.
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
		case <-w.started: // it answered and ended
		default:
			return nil, context.Cause(ctx)
		}
	}
	if w.status == 0 {
		if err := req.Context().Err(); err != nil {
			return nil, err // the handler has ended because the client had given up
		}
		return nil, io.EOF // as net/http says of a connection that is cut
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
		Body:          &pipeBody{pr, req.Context(), cancel},
		ContentLength: length,
		Request:       req,
	}, nil
}

// asReceived is req as a server sees it.
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

// serve runs the handler and ends the answer: well, or, where the handler cut the
// connection, in the middle.
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

// pipeWriter is the answer, on its way to whoever reads it.
type pipeWriter struct {
	header  http.Header
	once    sync.Once
	started chan struct{} // closed when status and sent are set, or never will be
	status  int           // 0: cut before the answer
	sent    http.Header
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
		return 0, nil // a pipe would wait for a reader
	}
	return w.pw.Write(p)
}

// Flush has nothing to do: every write has been read when it returns.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// pipeBody is the body of an answer. Closing it ends the request.
type pipeBody struct {
	*io.PipeReader
	ctx    context.Context // of the request
	cancel context.CancelFunc
}

// Read fails with the reason of the request's end, as net/http's does.
func (b *pipeBody) Read(p []byte) (int, error) {
	n, err := b.PipeReader.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = b.ctx.Err()
	}
	return n, err
}

func (b *pipeBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
