"""The same with the official Python client."""
import sys
import urllib.parse

import shangcloud

sys.stdout.reconfigure(encoding="utf-8")
client = shangcloud.Client.init_client("app", "dev-secret", "http://localhost:8080/callback")
client.base_url = sys.argv[1]
client.append_scope("var:io")
print(client.generate_oauth_url(), flush=True)
query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(input()).query))
user = client.generate_user_instance(query["code"], query["state"])
info = user.get_basic_info()
user.set_variable("theme", "dark 深色")
theme = user.get_variable("theme")
user.delete_variable("theme")
print(info.user_id, info.nickname, theme, str(user.is_expired()).lower())
