// This program logs in with the official Go client. It prints the address of the login
// page, reads the callback's address, and prints the user and a variable.
package main

import (
	"fmt"
	"log"
	"net/url"
	"os"

	shangcloud "github.com/YearnstudioHorizon/shangcloud-sdk-go"
)

func main() {
	client := shangcloud.InitClient("app", "dev-secret", "http://localhost:8080/callback")
	client.BaseUrl = os.Args[1]
	client.Scope = "user:basic var:io"
	fmt.Println(client.GenerateOAuthUrl())
	var back string
	if _, err := fmt.Scanln(&back); err != nil {
		log.Fatal(err)
	}
	callback, err := url.Parse(back)
	if err != nil {
		log.Fatal(err)
	}
	user, err := client.GenerateUserInstance(callback.Query().Get("code"), callback.Query().Get("state"))
	if err != nil {
		log.Fatal(err)
	}
	info, err := user.GetBasicInfo()
	if err != nil {
		log.Fatal(err)
	}
	if err := user.SetVariable("theme", "dark 深色"); err != nil {
		log.Fatal(err)
	}
	theme, err := user.GetVariable("theme")
	if err != nil {
		log.Fatal(err)
	}
	if err := user.DeleteVariable("theme"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.UserId, info.Nickname, theme, user.IsExpired())
}
