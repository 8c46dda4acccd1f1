// There is no token here, and nothing to keep: the session cookie is HttpOnly, and the
// browser sends it along by itself.

const $ = (id) => document.getElementById(id);

// api calls the JSON API. If nobody is signed in, the whole page goes to the login
// and comes back to where it was: a navigation, never a fetch.
async function api(path, body) {
	const options = body === undefined ? {} : {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify(body),
	};
	const response = await fetch(path, options);
	const answer = await response.json();
	if (response.status === 401) {
		const here = location.pathname + location.search + location.hash;
		location.assign(answer.login + "?next=" + encodeURIComponent(here));
		return new Promise(() => {}); // this page is about to go
	}
	if (!response.ok) throw new Error(answer.error);
	return answer;
}

const say = (text) => { $("message").textContent = text; };

$("form").addEventListener("submit", (event) => {
	event.preventDefault();
	api("/api/theme", { theme: $("theme").value }).then(() => say("Saved."), () => say("Not saved. Please try again."));
});

$("logout").addEventListener("click", async () => {
	await api("/api/logout", {});
	location.assign("/goodbye.html");
});

api("/api/me").then((me) => {
	$("who").textContent = me.nickname; // as text: it is the user's own
	$("theme").value = me.theme;
	$("form").hidden = false;
}, () => say("Please try again in a minute."));
