package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// send copies the images, then their checksum files and the manifest: where
// the manifest is, all is.
func (r *Request) send(ctx context.Context, p *plan, result *Result) error {
	for _, o := range result.Outputs {
		if err := r.sendFile(ctx, o.Path, o.Size, o.SHA256); err != nil {
			return p.kept(ctx, err)
		}
	}
	for _, path := range result.Files {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		if err := r.sendFile(ctx, path, int64(len(text)), hex.EncodeToString(sum[:])); err != nil {
			return p.kept(ctx, err)
		}
	}
	result.Sent = true
	if p.scratch { // where they were is nobody's business
		for i := range result.Outputs {
			result.Outputs[i].Path = ""
		}
		for i, path := range result.Files {
			result.Files[i] = filepath.Base(path)
		}
	}
	return nil
}

func (r *Request) sendFile(ctx context.Context, path string, size int64, sum string) error {
	name := filepath.Base(path)
	stage := r.UI.Stage("send")
	err := r.Send(ctx, path, size, sum, name, func(done, total int64) { stage.Progress(done, total, name) })
	if err != nil {
		stage.Fail()
		return err
	}
	stage.Done(name)
	return nil
}

// kept adds to an error of the way to another host that nothing is lost. What
// was interrupted is not wanted, unless its folder is.
func (p *plan) kept(ctx context.Context, err error) error {
	if p.scratch && ctx.Err() != nil {
		return err
	}
	p.scratch = false
	return fmt.Errorf("%w\nhint: the files are complete and kept in %q", err, p.dir)
}
