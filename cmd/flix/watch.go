package main

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
)

// watchEvery is how often a watched page is shown again.
const watchEvery = time.Second

// watched shows a page every second until the reader has seen enough. On a
// terminal each takes the place of the one before; a program gets a line of JSON,
// or a document of YAML, for each.
func watched(ctx context.Context, a *app, out output, once func(context.Context, *app) error) error {
	for {
		var page bytes.Buffer
		env := a.env
		env.Out = &page
		err := once(ctx, &app{env: env, name: a.name})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := showPage(a, out, page.Bytes()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

func showPage(a *app, out output, page []byte) error {
	switch {
	case out.format == "json":
		return out.item(a, json.RawMessage(page))
	case out.format == "yaml":
		page = append([]byte("---\n"), page...)
	case a.env.OutTTY:
		a.env.out().Page(string(page))
		return nil
	}
	_, err := a.env.Out.Write(page)
	return err
}
