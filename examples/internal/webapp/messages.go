package webapp

import (
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
)

// text is a short page: a title and one paragraph.
type text struct{ Title, Text string }

// texts are all texts of the application in one language.
type texts struct {
	Lang                              string // of the html element
	OtherLang, OtherName              string // the language to change to
	AppName, SignIn, SignOut, Home    string
	PlatformIs, DemoPlatform, UseReal string

	// welcome.html
	Welcome     text
	WelcomeDemo string
	Feature     []string
	SignedOut   string

	// account.html
	Account, Avatar, Mail, Variables, TouchedOnly, NoneTouched string
	AddVariable, LookUp, LookUpLabel                           string

	// variable.html
	Variable, Key, Value, ValueHint, Save, Delete, DeleteSure, DeleteNow, Back string
	KeyEmpty, KeyTooLong, ValueTooLong, NotText, NotSaved                      string
	NoValue, NotEditable                                                       string
	Saved, Deleted                                                             string // %s is the key

	// message.html
	Unsaved                                                    string
	Denied, LoginLost, BadCallback, Unavailable, Refused       text
	SessionEnded, ForeignForm, FormTooLarge, BadForm, NotFound text
	CallRefused                                                text
}

var english = texts{
	Lang: "en", OtherLang: "zh-CN", OtherName: "中文",
	AppName: "ShangCloud demo", SignIn: "Sign in with ShangCloud", SignOut: "Sign out", Home: "To the start page",
	PlatformIs: "Platform: ", DemoPlatform: "a demo inside this program, nothing leaves this computer",
	UseReal: "To use the real platform, set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET.",

	Welcome:     text{"Try a login with ShangCloud", "A small web application in Go that shows a complete login. Its source is meant to be read, and copied."},
	WelcomeDemo: "No account is needed: on the next page you choose one of three made-up users. You can also say no there, to see what happens.",
	Feature:     []string{"Sign in, and see your avatar, nickname, mail address and user ID", "Add, change and delete your cloud variables", "Sign out again"},
	SignedOut:   "You are signed out of this application. In ShangCloud you may still be signed in.",

	Account: "Your account", Avatar: "Your avatar", Mail: "Mail", Variables: "Cloud variables",
	TouchedOnly: "ShangCloud has no call that lists variables. Here are those that you have opened or saved since you signed in.",
	NoneTouched: "None yet.", AddVariable: "Add a variable", LookUp: "Look up", LookUpLabel: "Look up a variable by its key",

	Variable: "Variable", Key: "Key", Value: "Value", ValueHint: "Any text, also of many lines, up to 1\u00a0MiB.",
	Save: "Save", Delete: "Delete…", DeleteSure: "The variable will be gone for all applications that use it.", DeleteNow: "Delete the variable", Back: "Back to your account",
	KeyEmpty: "Please enter a key.", KeyTooLong: "The key is too long: 256 characters at most.",
	ValueTooLong: "The value is too long: 1 MiB at most.", NotText: "Key and value have to be text in UTF-8.",
	NotSaved:    "Not saved: ShangCloud can't be reached, or did not accept it. Please try again.",
	NoValue:     "There is no such variable, or it is empty. Save to give it a value.",
	NotEditable: "This value holds characters that a text field can't keep (carriage returns or NUL). Saving would change them.",
	Saved:       "Saved “%s”.", Deleted: "Deleted “%s”.",

	Unsaved:      "What you typed was not saved. Copy it from here:",
	Denied:       text{"You said no", "That is fine: this application learnt nothing about you. If it was a mistake, just sign in again."},
	LoginLost:    text{"This login is no longer valid", "It took longer than five minutes, was used already, or was started in another browser. Or this browser keeps no cookies for this site: allow them. Then sign in again."},
	BadCallback:  text{"That address is not complete", "It should come from ShangCloud at the end of a login, but something is missing in it. Please sign in again."},
	Unavailable:  text{"ShangCloud can't be reached", "Or it has a problem at the moment. Please try again in a minute."},
	Refused:      text{"ShangCloud refused the login", "This application may be set up wrongly. Its log says more."},
	SessionEnded: text{"Please sign in again", "You are no longer signed in: the session has ended, or ShangCloud no longer accepts it."},
	ForeignForm:  text{"Not accepted", "The form did not come from a current page of this application, so nothing was changed. Please go back to the start page and try again."},
	FormTooLarge: text{"Too large", "That is more than this application takes. Nothing was changed."},
	BadForm:      text{"Not understood", "The form arrived damaged. Nothing was changed."},
	NotFound:     text{"There is no such page", "The address may be mistyped."},
	CallRefused:  text{"ShangCloud refused", "Perhaps this application may not read or change your variables. Its log says more."},
}

var chinese = texts{
	Lang: "zh-CN", OtherLang: "en", OtherName: "English",
	AppName: "ShangCloud 演示", SignIn: "使用 ShangCloud 登录", SignOut: "退出登录", Home: "返回首页",
	PlatformIs: "平台：", DemoPlatform: "本程序内置的模拟平台，数据不会离开这台电脑",
	UseReal: "要连接真实平台，请设置 SHANGCLOUD_CLIENT_ID 和 SHANGCLOUD_CLIENT_SECRET。",

	Welcome:     text{"体验 ShangCloud 登录", "一个用 Go 编写的小型网页应用，演示完整的登录流程。源代码供你阅读和复制。"},
	WelcomeDemo: "无需账号：在下一页从三个虚构用户中任选一个即可。你也可以在那里选择拒绝，看看会怎样。",
	Feature:     []string{"登录，并查看头像、昵称、邮箱和用户 ID", "添加、修改和删除你的云变量", "退出登录"},
	SignedOut:   "你已退出本应用。你在 ShangCloud 的登录可能仍然有效。",

	Account: "你的账号", Avatar: "你的头像", Mail: "邮箱", Variables: "云变量",
	TouchedOnly: "ShangCloud 没有列出变量的接口。这里显示的是你本次登录后打开或保存过的变量。",
	NoneTouched: "暂无。", AddVariable: "添加变量", LookUp: "查找", LookUpLabel: "按键名查找变量",

	Variable: "变量", Key: "键名", Value: "值", ValueHint: "任意文本，可以有多行，最大 1 MiB。",
	Save: "保存", Delete: "删除…", DeleteSure: "删除后，所有使用该变量的应用都将无法再读取它。", DeleteNow: "确认删除", Back: "返回你的账号",
	KeyEmpty: "请输入键名。", KeyTooLong: "键名过长：最多 256 个字符。",
	ValueTooLong: "值过长：最大 1 MiB。", NotText: "键名和值必须是 UTF-8 文本。",
	NotSaved:    "未保存：无法访问 ShangCloud，或它没有接受，请重试。",
	NoValue:     "该变量不存在，或者为空。保存后即有值。",
	NotEditable: "该值含有文本框无法保留的字符（回车符或 NUL），保存会改变它们。",
	Saved:       "已保存“%s”。", Deleted: "已删除“%s”。",

	Unsaved:      "你输入的内容尚未保存，请从这里复制：",
	Denied:       text{"你已拒绝授权", "没关系，本应用没有获得你的任何信息。如果是误操作，重新登录即可。"},
	LoginLost:    text{"本次登录已失效", "可能超过了五分钟、已被使用过，或是在另一个浏览器中发起的；也可能是浏览器禁止了本站的 Cookie，请允许后重新登录。"},
	BadCallback:  text{"地址不完整", "该地址应由 ShangCloud 在登录结束时跳转而来，但缺少部分内容。请重新登录。"},
	Unavailable:  text{"无法访问 ShangCloud", "也可能是平台暂时出现故障。请稍后再试。"},
	Refused:      text{"ShangCloud 拒绝了本次登录", "本应用的设置可能有误，详情请查看日志。"},
	SessionEnded: text{"请重新登录", "你已不在登录状态：会话已结束，或 ShangCloud 不再接受它。"},
	ForeignForm:  text{"未被接受", "该表单不是来自本应用当前的页面，因此未做任何更改。请返回首页重试。"},
	FormTooLarge: text{"内容过大", "超出了本应用可接收的大小，未做任何更改。"},
	BadForm:      text{"无法识别", "表单数据已损坏，未做任何更改。"},
	NotFound:     text{"页面不存在", "地址可能输入有误。"},
	CallRefused:  text{"ShangCloud 拒绝了请求", "本应用可能无权读取或修改你的变量，详情请查看日志。"},
}

var languages = []*texts{&english, &chinese}

func textsFor(r *http.Request) *texts {
	if page.Language(r, english.Lang, chinese.Lang) == chinese.Lang {
		return &chinese
	}
	return &english
}
