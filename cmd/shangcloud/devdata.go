package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/YearnstudioHorizon/shangcloud-oauth2/shangcloudtest"
)

// variablesFile keeps the variables of all users: {"10001": {"theme": "dark"}}.
type variablesFile struct {
	path     string
	platform *shangcloudtest.Server

	mu    sync.Mutex
	saved []byte
	uids  []int64
}

// loadVariables sets the variables that are stored in the file at path. The file need not
// exist.
func loadVariables(path string, platform *shangcloudtest.Server) (*variablesFile, error) {
	v := &variablesFile{path: path, platform: platform}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	var all map[int64]map[string]string
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("--data: %s is not what this program has written: %w", path, err)
	}
	for uid, variables := range all {
		v.uids = append(v.uids, uid)
		for key, value := range variables {
			platform.SetVariable(uid, key, value)
		}
	}
	return v, nil
}

// save writes the file if a variable has changed. The file gets the variables of users,
// and of all users who were in the file before.
func (v *variablesFile) save(users []shangcloudtest.User) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make(map[int64]map[string]string)
	add := func(uid int64) {
		if variables := v.platform.Variables(uid); len(variables) > 0 {
			all[uid] = variables
		}
	}
	for _, uid := range v.uids {
		add(uid)
	}
	for _, user := range users {
		add(user.ID)
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil || bytes.Equal(data, v.saved) {
		return err
	}
	if err := replaceFile(v.path, append(data, '\n')); err != nil {
		return err
	}
	v.saved = data
	return nil
}
