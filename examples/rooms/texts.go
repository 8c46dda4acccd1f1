package main

import (
	"net/http"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/examples/internal/page"
)

// text is a short page: a title and one paragraph.
type text struct{ Title, Text string }

// texts are all texts of the application in one language.
type texts struct {
	Lang, OtherLang, OtherName        string
	AppName, SignIn, SignOut, Home    string
	PlatformIs, DemoPlatform, UseReal string

	// welcome.html
	Welcome     text
	WelcomeDemo string
	Features    []string

	// room.html
	Room, NoScript, InRoom, You          string
	Board, BoardHelp, Wipe               string
	Chat, Say, Send                      string
	Waiting, Connected, Lost, Over, Full string
	NotSent, Joined, Left, Wiped, Reload string

	// message.html
	Denied, LoginLost, LoginFailed, BotSignedIn, Foreign, NotFound text
}

var english = texts{
	Lang: "en", OtherLang: "zh-CN", OtherName: "中文",
	AppName: "ShangCloud rooms", SignIn: "Sign in with ShangCloud", SignOut: "Sign out", Home: "To the start page",
	PlatformIs: "Platform: ", DemoPlatform: "a demo inside this program, nothing leaves this computer",
	UseReal: "To use the real platform, set SHANGCLOUD_CLIENT_ID and SHANGCLOUD_CLIENT_SECRET.",

	Welcome:     text{"Draw together in a room", "A small web application in Go. Whoever signs in joins the same ShangCloud room, and a bot is there already."},
	WelcomeDemo: "No account is needed: on the next page you choose one of three made-up users. Open this page in a second browser or a private window, and be somebody else there.",
	Features:    []string{"Draw on one board with everybody in the room", "Talk, and see who comes and goes", "Ask the bot for a house, a star or a heart"},

	Room: "Room", NoScript: "This page needs JavaScript: the board and the messages arrive while it is open.",
	InRoom: "In the room", You: " (you)",
	Board: "Shared board", BoardHelp: "Draw with a finger or the mouse. With the keyboard: arrow keys move the pen, Space puts it down and lifts it.", Wipe: "Wipe the board",
	Chat: "Messages", Say: "Message", Send: "Send",
	Waiting: "Connecting to the room…", Connected: "Connected", Lost: "No connection. Trying again…",
	Over: "Your session has ended.", Full: "You can't come in: the session has ended, or too many pages are open.",
	NotSent: "Not sent. Please try again.", Joined: "%s joined", Left: "%s left", Wiped: "%s wiped the board", Reload: "Load this page again",

	Denied:      text{"You said no", "That is fine: this application learnt nothing about you. If it was a mistake, just sign in again."},
	LoginLost:   text{"This login is no longer valid", "It took longer than five minutes, was used already, or was started in another browser. Or this browser keeps no cookies for this site: allow them. Then sign in again."},
	LoginFailed: text{"That did not work", "ShangCloud can't be reached or refused the login, or too many people are here. Please try again in a minute. The log says more."},
	BotSignedIn: text{"The bot is signed in", "It opens the room now."},
	Foreign:     text{"Not accepted", "The request did not come from a page of this application, so nothing was changed."},
	NotFound:    text{"There is no such page", "The address may be mistyped."},
}

var chinese = texts{
	Lang: "zh-CN", OtherLang: "en", OtherName: "English",
	AppName: "ShangCloud 房间", SignIn: "使用 ShangCloud 登录", SignOut: "退出登录", Home: "返回首页",
	PlatformIs: "平台：", DemoPlatform: "本程序内置的模拟平台，数据不会离开这台电脑",
	UseReal: "要连接真实平台，请设置 SHANGCLOUD_CLIENT_ID 和 SHANGCLOUD_CLIENT_SECRET。",

	Welcome:     text{"在房间里一起画画", "一个用 Go 编写的小型网页应用。登录的人都会进入同一个 ShangCloud 房间，里面已经有一个机器人。"},
	WelcomeDemo: "无需账号：在下一页从三个虚构用户中任选一个即可。用另一个浏览器或无痕窗口再打开本页，就能以另一个人的身份进来。",
	Features:    []string{"和房间里的所有人在同一块画板上画画", "聊天，并看到谁进来、谁离开", "让机器人画房子、星星或爱心"},

	Room: "房间", NoScript: "本页需要 JavaScript：画面和消息是在页面打开期间陆续送达的。",
	InRoom: "房间里的成员", You: "（你）",
	Board: "共享画板", BoardHelp: "用手指或鼠标画画。也可以用键盘：方向键移动画笔，空格键落笔和提笔。", Wipe: "清空画板",
	Chat: "消息", Say: "消息", Send: "发送",
	Waiting: "正在连接房间……", Connected: "已连接", Lost: "连接已断开，正在重试……",
	Over: "你的会话已结束。", Full: "无法进入：会话已结束，或打开的页面过多。",
	NotSent: "发送失败，请重试。", Joined: "%s 进来了", Left: "%s 离开了", Wiped: "%s 清空了画板", Reload: "重新加载本页",

	Denied:      text{"你已拒绝授权", "没关系，本应用没有获得你的任何信息。如果是误操作，重新登录即可。"},
	LoginLost:   text{"本次登录已失效", "可能超过了五分钟、已被使用过，或是在另一个浏览器中发起的；也可能是浏览器禁止了本站的 Cookie，请允许后重新登录。"},
	LoginFailed: text{"登录没有成功", "无法访问 ShangCloud、登录被它拒绝，或者这里的人太多。请稍后再试，详情请查看日志。"},
	BotSignedIn: text{"机器人已登录", "它现在会打开房间。"},
	Foreign:     text{"未被接受", "该请求不是来自本应用的页面，因此未做任何更改。"},
	NotFound:    text{"页面不存在", "地址可能输入有误。"},
}

func textsFor(r *http.Request) *texts {
	if page.Language(r, english.Lang, chinese.Lang) == chinese.Lang {
		return &chinese
	}
	return &english
}
