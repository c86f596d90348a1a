package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/nationtech/fleet/agent/reconcile"
)

// reference is an image's full name. A name without a registry is Docker Hub's, as
// in Kubernetes; podman alone would look into a file that few devices have.
func reference(image string) string {
	first, _, hasPath := strings.Cut(image, "/")
	switch {
	case !hasPath:
		return "docker.io/library/" + image
	case strings.ContainsAny(first, ".:") || first == "localhost":
		return image
	}
	return "docker.io/" + image
}

// pull brings an image to the device. Podman answers 200 at once and says in the
// stream what went wrong.
// https://docs.podman.io/en/latest/_static/api.html#tag/images/operation/ImagePullLibpod
func (d *Driver) pull(ctx context.Context, want *reconcile.Desired, image string) error {
	header := http.Header{}
	if want != nil && len(want.PullSecrets) > 0 {
		credentials, err := d.credentials(want)
		if err != nil {
			return err
		}
		header.Set(headerCredentials, credentials)
	}
	body, err := d.c.openWith(ctx, http.MethodPost, "/images/pull", url.Values{"reference": {reference(image)}, "quiet": {"true"}}, header, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	pulled := false
	for {
		var line struct {
			Error string `json:"error"`
			ID    string `json:"id"`
		}
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			if !pulled {
				return errors.New("podman ended without the image")
			}
			return nil
		case err != nil:
			return fmt.Errorf("read podman's progress: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
		pulled = pulled || line.ID != ""
	}
}
