// This program tests the released module cmd/shangcloud alone. It runs the program
// shangcloud, which scripts/release has installed. It logs in once and sets one variable.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, err := os.MkdirTemp("", "shangcloud")
	if err != nil {
		log.Fatal(err)
	}
	platform := exec.CommandContext(ctx, "shangcloud", "dev", "--addr", "127.0.0.1:0", "--auto-approve", "--json")
	err = use(ctx, platform, filepath.Join(store, "login"))
	if platform.Process != nil {
		_ = platform.Process.Kill()
		_ = platform.Wait()
	}
	_ = os.RemoveAll(store)
	if err != nil {
		log.Fatal(err)
	}
}

func use(ctx context.Context, platform *exec.Cmd, store string) error {
	out, err := platform.StdoutPipe()
	if err != nil {
		return err
	}
	if err := platform.Start(); err != nil {
		return err
	}
	var settings struct {
		BaseURL  string `json:"base_url"`
		ClientID string `json:"public_client_id"`
	}
	if err := json.NewDecoder(out).Decode(&settings); err != nil {
		return err
	}
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"login", "--device", "--base-url", settings.BaseURL, "--client-id", settings.ClientID},
			"Logged in to " + settings.BaseURL + " as 小云 (10001) <user10001@example.com>.\n"},
		{[]string{"whoami"}, "小云 (10001) <user10001@example.com>\n"},
		{[]string{"var", "set", "theme", "dark"}, ""},
		{[]string{"var", "get", "theme"}, "dark"},
		{[]string{"logout"}, "Logged out of " + settings.BaseURL + ".\n"},
	} {
		cmd := exec.CommandContext(ctx, "shangcloud", append(step.args, "--config-dir", store, "--store", "file")...)
		cmd.Stderr = os.Stderr
		got, err := cmd.Output()
		if err != nil {
			return err
		}
		if string(got) != step.want {
			return fmt.Errorf("%q prints %q", step.args, got)
		}
	}
	return nil
}
