// The same with the official Node client. It asks for the scope user:basic only.
import { createInterface } from "node:readline/promises";
import { Client } from "shangcloud-sdk";

const client = Client.create("app", "dev-secret", "http://localhost:8080/callback");
client.baseUrl = process.argv[2];
console.log(client.generateOAuthUrl());
const lines = createInterface({ input: process.stdin });
lines.once("line", async (back) => {
	lines.close();
	const query = new URL(back).searchParams;
	const user = await client.generateUserInstance(query.get("code"), query.get("state"));
	const info = await user.getBasicInfo();
	const refused = await user.getVariable("theme").catch((error) => String(error));
	console.log(info.uid, info.nickname, /insufficient_scope/.test(refused), user.isExpired());
});
