package shangcloudtest

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	//go:embed pages.html
	pagesHTML string

	//go:embed pages.css
	pagesCSS string

	pages = template.Must(template.New("").Funcs(template.FuncMap{
		"css":     func() template.CSS { return template.CSS(pagesCSS) },
		"initial": initial,
	}).Parse(pagesHTML))

	// The policy allows one style sheet, by its hash. It forbids scripts, frames and all
	// other resources. It has no form-action, because Chromium applies this directive also
	// to the redirect after a form, and that redirect may lead to the site of any
	// application. default-src does not apply to forms (CSP 3, 6.1).
	pagesPolicy = "default-src 'none'; style-src '" + hashSource(pagesCSS) + "'; base-uri 'none'; frame-ancestors 'none'"
)

func hashSource(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// initial returns the first letter of a nickname. The pages show it in place of the
// avatar, because they load no images.
func initial(nickname string) string {
	r, size := utf8.DecodeRuneInString(nickname)
	if size == 0 {
		return "?"
	}
	return string(r)
}

// page is the data of the templates.
type page struct {
	T         *texts
	Client    string
	ReturnsTo string
	Scopes    []scopeText
	Users     []User
	Nonce     string
	Action    string // a relative URL, because the server may be mounted below a path
	Code      string
	Device    bool
	Failed    bool
	Allowed   bool
	Detail    string
}

type scopeText struct{ Name, Text string }

func (s *Server) consentPage(w http.ResponseWriter, r *http.Request, p *pendingConsent, nonce string, users []User) {
	t := textsFor(r)
	v := page{T: t, Client: p.client.ID, Nonce: nonce, Users: users, Action: "consent"}
	for _, scope := range p.scopes {
		v.Scopes = append(v.Scopes, scopeText{scope, t.Scope[scope]})
	}
	if p.device != nil {
		v.Device, v.Action = true, "oauth/consent"
		v.Code = displayUserCode(normalUserCode(r.URL.Query().Get("user_code")))
	} else {
		v.ReturnsTo = returnsTo(p.redirectURI)
	}
	render(w, http.StatusOK, "consent", v)
}

func (s *Server) userCodePage(w http.ResponseWriter, r *http.Request, typed string, failed bool) {
	status := http.StatusOK
	if failed {
		status = http.StatusBadRequest
	}
	render(w, status, "device", page{T: textsFor(r), Code: typed, Failed: failed})
}

func (s *Server) donePage(w http.ResponseWriter, r *http.Request, allowed bool) {
	render(w, http.StatusOK, "done", page{T: textsFor(r), Allowed: allowed})
}

// errorPage shows an error to the user. The detail is for the developer of the
// application.
func (s *Server) errorPage(w http.ResponseWriter, r *http.Request, detail string) {
	render(w, http.StatusBadRequest, "error", page{T: textsFor(r), Detail: detail})
}

func render(w http.ResponseWriter, status int, name string, v page) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil { // cannot happen: the templates are fixed
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", v.T.Lang)
	h.Set("Content-Security-Policy", pagesPolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin") // with "no-referrer", a form would have the Origin "null"
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Language")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes())
}

// texts are the texts of the pages in one language.
type texts struct {
	Lang                                               string
	Test, Consent, Asks, Requests, Device, Compare     string
	As, Nobody, Allow, Deny, Returns, Email            string
	EnterCode, EnterHint, Code, Next, WrongCode        string
	AllowedTitle, DeniedTitle, Done, ErrorTitle, Error string
	Scope                                              map[string]string
}

var (
	english = &texts{
		Lang: "en", Test: "Test platform: no real accounts",
		Consent: "Sign in with ShangCloud", Asks: "The application", Requests: "asks for access to:",
		Device: "A device of the application", Compare: "Go on only if your device shows this code:",
		As: "Sign in as", Nobody: "There is no user yet. Add one with AddUser.", Allow: "Allow", Deny: "Deny",
		Returns:   "You will return to",
		EnterCode: "Connect a device", EnterHint: "Enter the code that your device shows.", Code: "Code", Next: "Continue",
		WrongCode:    "This code is wrong or has expired. Look at your device and try again.",
		AllowedTitle: "Device connected", DeniedTitle: "Access denied", Done: "You can close this page and go back to your device.",
		ErrorTitle: "This sign-in cannot go on", Error: "The application sent a request that ShangCloud does not accept. Go back and try again.",
		Scope: map[string]string{
			"user:basic": "Your user ID, nickname, mail address and picture",
			"var:io":     "Reading and writing your variables",
			"mmo":        "Creating and joining game rooms",
			"openid":     "Your user ID",
			"profile":    "Your nickname and picture",
		},
	}
	chinese = &texts{
		Lang: "zh-CN", Test: "模拟平台：并非真实账号",
		Consent: "使用 ShangCloud 登录", Asks: "应用", Requests: "请求获得以下权限：",
		Device: "设备上的应用", Compare: "请确认设备上显示的是此代码，再继续：",
		As: "选择登录用户", Nobody: "还没有用户，请先用 AddUser 添加。", Allow: "允许", Deny: "拒绝",
		Returns:   "完成后将返回",
		EnterCode: "连接设备", EnterHint: "请输入设备上显示的代码。", Code: "代码", Next: "继续",
		WrongCode:    "代码有误或已过期，请核对设备上的代码后重试。",
		AllowedTitle: "设备已连接", DeniedTitle: "已拒绝授权", Done: "可以关闭此页面，回到设备上继续。",
		ErrorTitle: "无法继续登录", Error: "应用发来的请求未被 ShangCloud 接受，请返回重试。",
		Scope: map[string]string{
			"user:basic": "读取你的用户 ID、昵称、邮箱和头像",
			"var:io":     "读写你的变量",
			"mmo":        "创建和加入游戏房间",
			"openid":     "读取你的用户 ID",
			"profile":    "读取你的昵称和头像",
		},
	}
)

// textsFor selects the language that the browser prefers (RFC 9110, 12.5.4). It selects
// Chinese if the browser states no preference, and English if the browser accepts neither
// language.
func textsFor(r *http.Request) *texts {
	accepts := r.Header.Get("Accept-Language")
	if strings.TrimSpace(accepts) == "" {
		return chinese
	}
	best, bestWeight := english, 0.0
	for part := range strings.SplitSeq(accepts, ",") {
		tag, parameters, _ := strings.Cut(strings.TrimSpace(part), ";")
		weight := 1.0
		if q, found := strings.CutPrefix(strings.TrimSpace(parameters), "q="); found {
			weight, _ = strconv.ParseFloat(q, 64)
		}
		primary, _, _ := strings.Cut(strings.ToLower(tag), "-")
		switch {
		case weight <= bestWeight:
		case primary == "zh":
			best, bestWeight = chinese, weight
		case primary == "en":
			best, bestWeight = english, weight
		}
	}
	return best
}
