package darksite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Serve opens a darksite and serves its files over HTTP until ctx ends.
// ready is called once with the address that is listened on. Nothing outside
// dir is served, not by a symbolic link either.
func Serve(ctx context.Context, dir, listen string, ready func(d *Darksite, addr string)) error {
	d, err := Open(dir)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(d.RepoDir())
	if err != nil {
		return err
	}
	defer root.Close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("serving %q: %w", dir, err)
	}
	srv := &http.Server{
		Handler:           readOnly(http.FileServerFS(root.FS())),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Hour,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			srv.Close()
		}
	})
	defer stop()
	ready(d, l.Addr().String())
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving %q: %w", dir, err)
	}
	return nil
}

func readOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			http.Error(w, "this mirror is read only", http.StatusMethodNotAllowed)
			return
		}
		h.ServeHTTP(w, r)
	})
}
