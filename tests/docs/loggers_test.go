package docs

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pathOnly is chi's log formatter without the query of the URL.
type pathOnly struct{ middleware.LogFormatter }

func (f pathOnly) NewLogEntry(r *http.Request) middleware.LogEntry {
	short := r.WithContext(r.Context()) // a copy
	short.RequestURI = r.URL.Path
	return f.LogFormatter.NewLogEntry(short)
}

// callback handles the redirect URL. The query chooses how it fails.
func callback(r *http.Request) {
	switch r.URL.Query().Get("fail") {
	case "panic":
		panic("of the application")
	case "write":
		panic(fmt.Errorf("write: %w", syscall.EPIPE)) // as if the browser had gone away
	}
}

// requests sends the callbacks whose logs the test checks.
func requests(h http.Handler) {
	for _, fail := range []string{"", "panic", "write"} {
		r := httptest.NewRequest(http.MethodGet, "/callback?code=topsecret&state=hidden&fail="+fail, nil)
		r.Header.Set("Cookie", "login=crumbs")
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func netHTTPLog(_ *bytes.Buffer, fixed bool) {
	mux := http.NewServeMux()
	mux.HandleFunc("/callback", func(_ http.ResponseWriter, r *http.Request) {
		defer func() { _ = recover() }() // net/http's server writes the panic only
		callback(r)
	})
	logged := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		log.Printf("%s %s", r.Method, r.URL)
		mux.ServeHTTP(w, r)
	})
	if fixed {
		logged = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			log.Printf("%s %s", r.Method, r.URL.Path) // not r.URL and not r.RequestURI, which contain the query
			mux.ServeHTTP(w, r)
		})
	}
	requests(logged)
}

func chiLog(_ *bytes.Buffer, fixed bool) {
	router := chi.NewRouter()
	formatter := middleware.LogFormatter(&middleware.DefaultLogFormatter{Logger: log.Default(), NoColor: true})
	if fixed {
		formatter = pathOnly{formatter}
	}
	router.Use(middleware.RequestLogger(formatter), middleware.Recoverer)
	router.Get("/callback", func(_ http.ResponseWriter, r *http.Request) { callback(r) })
	requests(router)
}

func ginLog(out *bytes.Buffer, fixed bool) {
	gin.SetMode(gin.DebugMode)
	gin.DefaultWriter, gin.DefaultErrorWriter = out, out
	engine := gin.New()
	if !fixed {
		engine.Use(gin.Logger(), gin.Recovery())
	} else {
		engine.Use(
			gin.LoggerWithConfig(gin.LoggerConfig{SkipQueryString: true}),
			gin.CustomRecoveryWithWriter(nil, func(c *gin.Context, err any) {
				log.Printf("panic at %s: %v\n%s", c.Request.URL.Path, err, debug.Stack())
				c.AbortWithStatus(http.StatusInternalServerError)
			}),
		)
	}
	engine.GET("/callback", func(c *gin.Context) { callback(c.Request) })
	requests(engine)
}

func echoLog(out *bytes.Buffer, fixed bool) {
	e := echo.New()
	e.Logger = slog.New(slog.NewTextHandler(out, nil))
	if !fixed {
		e.Use(echomiddleware.RequestLogger())
	} else {
		e.Use(echomiddleware.RequestLoggerWithConfig(echomiddleware.RequestLoggerConfig{
			LogMethod: true, LogURIPath: true, LogStatus: true, LogLatency: true, HandleError: true,
			LogValuesFunc: func(c *echo.Context, v echomiddleware.RequestLoggerValues) error {
				c.Logger().Info("request", "method", v.Method, "path", v.URIPath, "status", v.Status, "latency", v.Latency, "error", v.Error)
				return nil
			},
		}))
	}
	e.Use(echomiddleware.Recover())
	e.GET("/callback", func(c *echo.Context) error {
		callback(c.Request())
		return nil
	})
	requests(e)
}

// By default, access loggers log the code of a callback, and gin's recovery handler logs
// the cookies. With the code of docs/browsers.md, they must not.
func TestAccessLoggers(t *testing.T) {
	for name, serve := range map[string]func(*bytes.Buffer, bool){"net/http": netHTTPLog, "chi": chiLog, "gin": ginLog, "Echo": echoLog} {
		t.Run(name, func(t *testing.T) {
			for _, fixed := range []bool{false, true} {
				var out bytes.Buffer
				captureLogs(t, &out)
				serve(&out, fixed)
				assert.Contains(t, out.String(), "/callback")
				assert.Equal(t, !fixed, strings.Contains(out.String(), "topsecret"))
				assert.Equal(t, !fixed, strings.Contains(out.String(), "hidden"))
				assert.Equal(t, !fixed && name == "gin", strings.Contains(out.String(), "crumbs"))
			}
		})
	}
}

// captureLogs redirects the default logs of these packages to out until the test ends.
func captureLogs(t *testing.T, out *bytes.Buffer) {
	t.Helper()
	to, ginOut, ginErr := log.Writer(), gin.DefaultWriter, gin.DefaultErrorWriter
	log.SetOutput(out)
	t.Cleanup(func() {
		log.SetOutput(to)
		gin.DefaultWriter, gin.DefaultErrorWriter = ginOut, ginErr
	})
}

// docs/browsers.md must contain the same code that TestAccessLoggers tests.
func TestAccessLoggersOfThePage(t *testing.T) {
	source, err := os.ReadFile("loggers_test.go")
	require.NoError(t, err)
	tested := plain(strings.ReplaceAll(string(source), "echomiddleware.", "middleware."))
	for _, needed := range []string{"not r.URL", "pathOnly", "SkipQueryString", "LogURIPath"} {
		found := false
		for _, b := range blocksOf(t, "docs/browsers.md", "go") {
			if !strings.Contains(b.code, needed) {
				continue
			}
			found = true
			for _, line := range strings.Split(b.code, "\n") {
				if !strings.Contains(line, "Use(") { // the test differs in such lines, because it logs to a buffer
					assert.Contains(t, tested, plain(line), "%v", b)
				}
			}
		}
		assert.True(t, found, needed)
	}
}

// plain removes comments and spaces from code.
func plain(code string) string {
	return strings.Join(strings.Fields(comment.ReplaceAllString(code, "")), "")
}
