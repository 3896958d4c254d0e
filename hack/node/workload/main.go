// Command workload calls a secured feature service with the token of a mounted Secret, which it reads for each request. It
// prints one line of JSON for each new token and each failed request, and one per second that counts the requests.
package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	interval = 100 * time.Millisecond
	timeout  = 5 * time.Second
)

// line is what it prints. Of a token, it is a digest.
type line struct {
	At       int64  `json:"at"`
	Token    string `json:"token,omitempty"`
	Failure  string `json:"failure,omitempty"`
	Requests int    `json:"requests"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ca, err := os.ReadFile(os.Getenv("CA_FILE"))
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	run(ctx, client, os.Getenv("LAYER_URL"), filepath.Join(os.Getenv("TOKEN_DIR"), "access_token"))
}

func run(ctx context.Context, client *http.Client, url, file string) {
	requests, last, reported := 0, "", time.Now()
	out := json.NewEncoder(os.Stdout)
	write := func(token, failure string) {
		out.Encode(line{At: time.Now().UnixMilli(), Token: token, Failure: failure, Requests: requests})
		reported = time.Now()
	}
	for ticks := time.Tick(interval); ; {
		token, err := os.ReadFile(file)
		digest := fmt.Sprintf("%x", sha256.Sum256(token))[:12]
		if err == nil && digest != last {
			last = digest
			write(digest, "")
		}
		if err == nil {
			err = query(client, url, string(token))
		}
		requests++
		if err != nil {
			write("", err.Error())
		}
		if time.Since(reported) >= time.Second {
			write("", "")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
	}
}

// query fails when the answer has no features. ArcGIS reports most errors with the status 200.
func query(client *http.Client, url, token string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Esri-Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Features []any
		Error    *struct{ Code int }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("status %d: %w", response.StatusCode, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("code %d", answer.Error.Code)
	}
	if len(answer.Features) == 0 {
		return fmt.Errorf("status %d without features", response.StatusCode)
	}
	return nil
}
