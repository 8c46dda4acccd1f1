package docs

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pathOnly is chi's log formatter, without the query.
type pathOnly struct{ middleware.LogFormatter }

func (f pathOnly) NewLogEntry(r *http.Request) middleware.LogEntry {
	short := r.WithContext(r.Context()) // a copy
	short.RequestURI = r.URL.Path
	return f.LogFormatter.NewLogEntry(short)
}

// request is what an access logger writes of a callback.
func request(h http.Handler) {
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/callback?code=topsecret&state=hidden", nil))
}

func chiLog(out *bytes.Buffer, fixed bool) {
	router := chi.NewRouter()
	formatter := middleware.LogFormatter(&middleware.DefaultLogFormatter{Logger: log.New(out, "", 0), NoColor: true})
	if fixed {
		formatter = pathOnly{formatter}
	}
	router.Use(middleware.RequestLogger(formatter))
	router.Get("/callback", func(http.ResponseWriter, *http.Request) {})
	request(router)
}

func ginLog(out *bytes.Buffer, fixed bool) {
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.Use(gin.LoggerWithConfig(gin.LoggerConfig{Output: out, SkipQueryString: fixed}))
	engine.GET("/callback", func(*gin.Context) {})
	request(engine)
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
	e.GET("/callback", func(*echo.Context) error { return nil })
	request(e)
}

// Access loggers write the code of a callback, unless docs/browsers.md is followed.
func TestAccessLoggers(t *testing.T) {
	for name, serve := range map[string]func(*bytes.Buffer, bool){"chi": chiLog, "gin": ginLog, "Echo": echoLog} {
		t.Run(name, func(t *testing.T) {
			var before, after bytes.Buffer
			serve(&before, false)
			serve(&after, true)
			assert.Contains(t, before.String(), "code=topsecret")
			assert.Contains(t, after.String(), "/callback")
			assert.NotContains(t, after.String(), "topsecret")
			assert.NotContains(t, after.String(), "hidden")
		})
	}
}

// The page shows what TestAccessLoggers tests.
func TestAccessLoggersOfThePage(t *testing.T) {
	source, err := os.ReadFile("loggers_test.go")
	require.NoError(t, err)
	tested := plain(strings.ReplaceAll(string(source), "echomiddleware.", "middleware."))
	for _, needed := range []string{"pathOnly", "SkipQueryString", "LogURIPath"} {
		found := false
		for _, b := range blocksOf(t, "docs/browsers.md", "go") {
			if !strings.Contains(b.code, needed) {
				continue
			}
			found = true
			for _, line := range strings.Split(b.code, "\n") {
				if !strings.Contains(line, "Use(") { // there the page has defaults
					assert.Contains(t, tested, plain(line), "%v", b)
				}
			}
		}
		assert.True(t, found, needed)
	}
}

// plain is code without comments and spaces.
func plain(code string) string {
	return strings.Join(strings.Fields(comment.ReplaceAllString(code, "")), "")
}
