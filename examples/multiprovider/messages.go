package main

import (
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
)

// text is a short page: a title and one paragraph.
type text struct{ Title, Text string }

// A notice is shown once, above the next page.
type notice string

const (
	noNotice       notice = ""
	noticeLinked   notice = "linked"
	noticeHadIt    notice = "had it"
	noticeUnlinked notice = "unlinked"
	noticeOver     notice = "over"
	noticeOut      notice = "out"
)

// texts are all texts of the application in one language.
type texts struct {
	Lang                                    string // of the html element
	OtherLang, OtherName                    string // the language to change to
	AppName, SignOut, Home, UseReal         string
	With, StandIn, Next                     string
	Account, AccountID, Identities, Current string
	Unlink, OnlyOne, Link, LinkHint         string
	Notice                                  map[notice]string

	Start, Leaving                                       text
	Denied, LoginLost, BadCallback, Unavailable, Refused text
	OtherAccount, NotSignedIn, Last                      text
	SessionEnded, ForeignForm, NotFound                  text
	Consent, BadRequest                                  text // of the stand-ins
	ConsentAs, ConsentReturn, ConsentAllow, ConsentDeny  string
}

var english = texts{
	Lang: "en", OtherLang: "zh-CN", OtherName: "中文",
	AppName: "Providers demo", SignOut: "Sign out", Home: "To the start page",
	UseReal: "Stand-ins are inside this program: made-up users, and nothing leaves this computer. Set GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET for the real GitHub, likewise for Google and ShangCloud.",
	With:    "Continue with %s", StandIn: "stand-in", Next: "Continue",
	Account: "Your account", AccountID: "Account", Identities: "You can sign in with", Current: "signed in with this one",
	Unlink: "Unlink", OnlyOne: "This is the only way into your account, so it can't be unlinked.",
	Link: "Link another one", LinkHint: "Afterwards, whoever signs in with it is in this account. Link only what is yours.",
	Notice: map[notice]string{
		noticeLinked:   "Linked. From now on you can sign in with either.",
		noticeHadIt:    "This one was linked to your account already.",
		noticeUnlinked: "Unlinked. Other browsers that were signed in to your account are signed out.",
		noticeOver:     "That login was finished before, or took too long. You are signed in; below is what is linked.",
		noticeOut:      "You are signed out of this application. You may still be signed in where you came from.",
	},
	Start:        text{"Sign in", "One application, several providers: sign in with any of them, and link the others to the same account."},
	Leaving:      text{"On to {provider}", "Sign in there with what you want to link to your account."},
	Denied:       text{"You said no", "That is fine: nothing was changed, and {provider} told this application nothing about you. If it was a mistake, just try again."},
	LoginLost:    text{"This login is no longer valid", "It took longer than five minutes, was used already, or was started in another browser. Please sign in again."},
	BadCallback:  text{"That address is not complete", "It should come from {provider} at the end of a login, but something is wrong with it. Please try again."},
	Unavailable:  text{"{provider} can't be reached", "Or it has a problem at the moment. Nothing was changed. Please try again in a minute, or sign in with another provider."},
	Refused:      text{"{provider} refused the login", "This application may be set up wrongly. Its log says more."},
	OtherAccount: text{"Not linked: it belongs to another account", "What you signed in with at {provider} already opens another account of this application, and accounts are never merged. To move it, sign in with it, link something else there, unlink it, and come back."},
	NotSignedIn:  text{"Not linked: you are no longer signed in", "The account that you wanted to link {provider} to is not signed in here any more. Please sign in to it and try again."},
	Last:         text{"Not unlinked: it is the last one", "Nobody could sign in to your account any more. Link another one first."},
	SessionEnded: text{"Please sign in again", "You are no longer signed in, so nothing was changed."},
	ForeignForm:  text{"Not accepted", "The form did not come from a current page of this application, so nothing was changed. Please go back to the start page and try again."},
	NotFound:     text{"There is no such page", "The address may be mistyped."},
	Consent:      text{"Stand-in for {provider}", "No real accounts: choose who you want to be. The application will learn name, mail address and picture."},
	BadRequest:   text{"This sign-in can't go on", "The page was answered already, has expired, or the request is wrong. Go back to the application and start again."},
	ConsentAs:    "Sign in as", ConsentReturn: "You will return to", ConsentAllow: "Allow", ConsentDeny: "Deny",
}

var chinese = texts{
	Lang: "zh-CN", OtherLang: "en", OtherName: "English",
	AppName: "多平台登录演示", SignOut: "退出登录", Home: "返回首页",
	UseReal: "模拟平台内置于本程序：用户均为虚构，数据不会离开这台电脑。要使用真实的 GitHub，请设置 GITHUB_CLIENT_ID 和 GITHUB_CLIENT_SECRET；Google 和 ShangCloud 同理。",
	With:    "使用 %s 登录", StandIn: "模拟", Next: "继续",
	Account: "你的账号", AccountID: "账号", Identities: "你可以使用以下方式登录", Current: "本次登录所用",
	Unlink: "解除关联", OnlyOne: "这是进入该账号的唯一方式，不能解除关联。",
	Link: "关联其他登录方式", LinkHint: "关联之后，用它登录的人就能进入此账号。请只关联你自己的身份。",
	Notice: map[notice]string{
		noticeLinked:   "关联成功，今后任选一种方式登录即可。",
		noticeHadIt:    "该身份此前已关联到你的账号。",
		noticeUnlinked: "已解除关联。其他浏览器中此账号的登录也已退出。",
		noticeOver:     "那次登录已经完成或已超时。你已登录，下面是已关联的身份。",
		noticeOut:      "你已退出本应用。你在登录平台上的登录可能仍然有效。",
	},
	Start:        text{"登录", "一个应用，多个平台：用任意一个登录，再把其他的关联到同一账号。"},
	Leaving:      text{"前往 {provider}", "请在那里登录你想要关联到此账号的身份。"},
	Denied:       text{"你已拒绝授权", "没关系，没有任何更改，本应用也没有从 {provider} 获得你的任何信息。如果是误操作，重试即可。"},
	LoginLost:    text{"本次登录已失效", "可能超过了五分钟、已被使用过，或是在另一个浏览器中发起的。请重新登录。"},
	BadCallback:  text{"地址不完整", "该地址应由 {provider} 在登录结束时跳转而来，但内容有误。请重试。"},
	Unavailable:  text{"无法访问 {provider}", "也可能是它暂时出现故障。未做任何更改。请稍后再试，或换一种方式登录。"},
	Refused:      text{"{provider} 拒绝了本次登录", "本应用的设置可能有误，详情请查看日志。"},
	OtherAccount: text{"未关联：它属于另一个账号", "你在 {provider} 登录的身份已关联到本应用的另一个账号，而账号不会合并。要转移它，请先用它登录那个账号，关联另一种登录方式，再解除它的关联，然后回到这里重试。"},
	NotSignedIn:  text{"未关联：你已不在登录状态", "发起关联的账号已不在登录状态。请重新登录该账号，再关联 {provider}。"},
	Last:         text{"未解除关联：这是最后一个", "解除后将无法再登录此账号。请先关联另一种登录方式。"},
	SessionEnded: text{"请重新登录", "你已不在登录状态，因此未做任何更改。"},
	ForeignForm:  text{"未被接受", "该表单不是来自本应用当前的页面，因此未做任何更改。请返回首页重试。"},
	NotFound:     text{"页面不存在", "地址可能输入有误。"},
	Consent:      text{"{provider} 的模拟平台", "并非真实账号：请选择要扮演的用户。应用将获得其名称、邮箱和头像。"},
	BadRequest:   text{"无法继续登录", "该页面已提交过、已过期，或请求有误。请回到应用重新开始。"},
	ConsentAs:    "选择登录用户", ConsentReturn: "完成后将返回", ConsentAllow: "允许", ConsentDeny: "拒绝",
}

func textsFor(r *http.Request) *texts {
	if page.Language(r, english.Lang, chinese.Lang) == chinese.Lang {
		return &chinese
	}
	return &english
}
