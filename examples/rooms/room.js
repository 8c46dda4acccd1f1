// The page of a room. What others say and draw arrives as server-sent events; what this
// person says and draws is posted. All texts of others are set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const room = $("room"), board = $("board"), lines = $("lines"), pen = $("pen"), log = $("log");
const texts = room.dataset;
const { width, height } = board.viewBox.baseVal;

let seat = ""; // names this page; "" while there is no connection to the room
let me = "";
let present = new Set(); // uids
const names = new Map(); // also of those who have left
const seen = new Set(); // IDs of messages: the bot repeats what somebody may have missed

room.hidden = false;

function connected(newSeat, status) {
	seat = newSeat;
	room.classList.toggle("connected", seat !== "");
	$("status").textContent = status;
}

// The colour of a member is the same on every page.
function colour(uid) {
	let sum = 0;
	for (const letter of uid) sum = (sum * 31 + letter.codePointAt(0)) % 65521;
	return "c" + sum % 8;
}

const nameOf = (uid) => names.get(uid) || uid || "?";

// Events

const source = new EventSource("/events");
source.onmessage = (event) => {
	const got = JSON.parse(event.data);
	handle[got.kind](got);
};
source.onerror = () => {
	if (source.readyState !== EventSource.CLOSED) return connected("", texts.lost); // the browser tries again
	connected("", texts.full);
	$("reload").hidden = false;
};

const handle = {
	waiting: () => connected("", texts.waiting),
	over: () => {
		source.close();
		connected("", texts.over);
		$("reload").hidden = false;
	},
	welcome: (got) => {
		connected(got.seat, texts.connected);
		me = got.uid;
		pen.setAttribute("class", colour(me));
		wipe(); // the bot sends the picture again
		present = new Set();
		show(got.members);
	},
	members: (got) => {
		const before = present;
		show(got.members);
		if (!got.uid) return;
		if (present.has(got.uid) && !before.has(got.uid)) news(texts.joined, got.uid);
		if (!present.has(got.uid) && before.has(got.uid)) news(texts.left, got.uid);
	},
	message: (got) => receive(got.message),
};

function show(members = []) {
	present = new Set(members.map((m) => m.uid));
	$("members").replaceChildren(...members.map((m) => {
		names.set(m.uid, m.name);
		const item = document.createElement("li"), name = document.createElement("span");
		item.className = colour(m.uid);
		name.textContent = m.name + (m.uid === me ? texts.you : "");
		item.append(name);
		return item;
	}));
}

function receive(m) {
	if (m.kind === "recall") return m.past?.forEach(receive);
	const known = m.kind === "draw" ? $(`line-${m.id}`) : seen.has(m.id);
	if (known) return;
	if (m.name && !names.has(m.uid)) names.set(m.uid, m.name);
	switch (m.kind) {
	case "say": return say(m);
	case "draw": return draw(m);
	case "wipe":
		wipe();
		news(texts.wiped, m.uid);
	}
}

// Messages

function say(m) {
	seen.add(m.id);
	const name = document.createElement("strong");
	name.className = colour(m.uid);
	name.textContent = nameOf(m.uid);
	return append([name, " ", m.text]);
}

const news = (text, uid) => append([text.replace("%s", () => nameOf(uid))], "news");

function append(content, className = "") {
	const line = document.createElement("p");
	line.className = className;
	line.append(...content);
	log.append(line);
	if (log.childElementCount > 500) log.firstElementChild.remove();
	log.scrollTop = log.scrollHeight;
	return line;
}

// post hands a message to the server. The room does not send it back, so the page shows
// it by itself.
async function post(m) {
	const answer = await fetch("/say", {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ seat, ...m }),
	}).catch(() => null);
	if (!answer?.ok) $("status").textContent = texts.notSent;
	else if (seat) $("status").textContent = texts.connected;
	return answer?.ok;
}

$("say").addEventListener("submit", async (event) => {
	event.preventDefault();
	const m = { kind: "say", id: crypto.randomUUID(), text: $("text").value.trim() };
	if (!m.text) return;
	const line = say({ ...m, uid: me });
	$("text").value = "";
	if (await post(m)) return;
	line.remove();
	$("text").value ||= m.text;
});

$("wipe").addEventListener("click", async () => {
	if (!await post({ kind: "wipe", id: crypto.randomUUID() })) return;
	wipe();
	news(texts.wiped, me);
});

// The board

function wipe() { lines.replaceChildren(); }

function draw(m) {
	const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
	line.id = `line-${m.id}`;
	line.setAttribute("class", colour(m.uid));
	line.setAttribute("points", m.points.join(" "));
	lines.append(line);
	if (lines.childElementCount > 2000) lines.firstElementChild.remove();
	return line;
}

// A line is sent while it is drawn, ten pieces a second, each beginning where the one
// before ended. current is the piece that is being drawn.
let current = null, timer = 0;

function penDown(x, y) {
	if (!seat || current) return;
	begin([x, y, x, y]); // a line of no length is a dot
	current.moved = true;
	timer = setInterval(flush, 100);
}

function begin(points) {
	current = { kind: "draw", id: crypto.randomUUID(), uid: me, points };
	current.line = draw(current);
}

function penMove(x, y) {
	if (!current) return;
	current.points.push(x, y);
	current.line.setAttribute("points", current.points.join(" "));
	current.moved = true;
	if (current.points.length >= 100) flush();
}

async function flush() {
	if (!current.moved) return;
	const { line, moved, uid, ...m } = current;
	const end = m.points.slice(-2);
	begin([...end, ...end]);
	if (!await post(m)) line.remove();
}

function penUp() {
	if (!current) return;
	clearInterval(timer);
	flush();
	current.line.remove();
	current = null;
}

function at(event) {
	const box = board.getBoundingClientRect();
	const scale = (n, size, limit) => Math.round(Math.min(1, Math.max(0, n / size)) * limit);
	return [scale(event.clientX - box.left, box.width, width), scale(event.clientY - box.top, box.height, height)];
}

board.addEventListener("pointerdown", (event) => {
	if (event.button !== 0 || !event.isPrimary) return;
	board.setPointerCapture(event.pointerId);
	penDown(...at(event));
});
board.addEventListener("pointermove", (event) => {
	if (event.isPrimary && board.hasPointerCapture(event.pointerId)) penMove(...at(event));
});
board.addEventListener("pointerup", penUp);
board.addEventListener("pointercancel", penUp);

// The keyboard: arrow keys and Space.
let x = width / 2, y = height / 2, down = false;
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function movePen(dx, dy) {
	x = Math.min(width, Math.max(0, x + dx));
	y = Math.min(height, Math.max(0, y + dy));
	pen.setAttribute("cx", x);
	pen.setAttribute("cy", y);
	if (down) penMove(x, y);
}

function lift() {
	if (down) penUp();
	down = false;
	pen.classList.remove("down");
}

board.addEventListener("keydown", (event) => {
	const arrow = arrows[event.key];
	if (!arrow && event.key !== " " || event.ctrlKey || event.altKey || event.metaKey) return;
	event.preventDefault();
	if (arrow) movePen(...arrow.map((n) => n * (event.shiftKey ? 40 : 10)));
	else if (event.repeat) return;
	else if (down) lift();
	else if (seat) {
		penDown(x, y);
		down = true;
		pen.classList.add("down");
	}
});
board.addEventListener("blur", lift);
movePen(0, 0);
