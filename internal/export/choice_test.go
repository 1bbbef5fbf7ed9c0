package export

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	all, err := Choose([]string{"all"})
	if err != nil || len(all) != len(Names()) {
		t.Fatalf("all: %d, %v", len(all), err)
	}
	for _, c := range all {
		if c.Extension() == "" || c.Format() == "" {
			t.Errorf("%+v", c)
		}
	}
	for names, want := range map[string]string{
		"":            "no format\nhint: have qcow2, ",
		"qcow":        "format \"qcow\": no such format\nhint: did you mean \"qcow2\"?",
		"tape":        "format \"tape\": no such format\nhint: have qcow2, ",
		"raw raw":     "format \"raw\" is there twice",
		"raw img":     "format \"raw\" is there twice", // an alias of it
		"raw all":     "format \"all\": no such format",
		"qcow2,vmdk ": "format \"qcow2,vmdk\": no such format",
	} {
		_, err := Choose(strings.Fields(names))
		var m *Mistake
		if !errors.As(err, &m) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", names, err, want)
		}
	}
}

// set makes settings on formats.
func set(t *testing.T, formats string, settings ...string) ([]*Choice, error) {
	t.Helper()
	choices, err := Choose(strings.Fields(formats))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range settings {
		if err := Set(choices, s); err != nil {
			return nil, err
		}
	}
	return choices, nil
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		formats  string
		settings []string
		want     []map[string]string
	}{
		{"qcow2", []string{"qcow2.compression=zstd", "cluster_size=2M"}, []map[string]string{{"compression": "zstd", "cluster_size": "2M"}}},
		{"raw qcow2", []string{"compression=none"}, []map[string]string{{}, {"compression": "none"}}},
		// What is set by name stays, whatever comes first.
		{"qcow2", []string{"qcow2.compression=zstd", "compression=none"}, []map[string]string{{"compression": "zstd"}}},
		{"qcow2", []string{"compression=none", "qcow2.compression=zstd"}, []map[string]string{{"compression": "zstd"}}},
	} {
		choices, err := set(t, c.formats, c.settings...)
		if err != nil {
			t.Errorf("%s: %v", c.settings, err)
			continue
		}
		var got []map[string]string
		for _, choice := range choices {
			got = append(got, choice.Options())
		}
		if !slices.EqualFunc(got, c.want, maps.Equal) {
			t.Errorf("%s: got %v, want %v", c.settings, got, c.want)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	for _, c := range []struct{ formats, settings, want string }{
		{"qcow2", "qcow2.compresion=zstd", "setting \"qcow2.compresion=zstd\": format qcow2 has no \"compresion\"\nhint: did you mean \"compression\"?"},
		{"qcow2", "compresion=zstd", "setting \"compresion=zstd\": none of the formats asked for has \"compresion\"\nhint: did you mean \"compression\"?"},
		{"qcow2", "compression=zst", "setting \"compression=zst\": qcow2.compression is \"deflate\", \"zstd\" or \"none\"\nhint: did you mean \"zstd\"?"},
		{"qcow2", "qcow2.cluster_size=3", "setting \"qcow2.cluster_size=3\": qcow2.cluster_size is a power of two from 512 to 2M"},
		{"qcow2", "cluster_size=4M", "setting \"cluster_size=4M\": qcow2.cluster_size is a power of two from 512 to 2M"},
		{"qcow2", "qcow2.backing=", "setting \"qcow2.backing=\": qcow2.backing is one line of text"},
		{"raw", "qcow2.compression=zstd", "setting \"qcow2.compression=zstd\": format \"qcow2\" is not among those asked for"},
		{"raw", "raw.size=1", "setting \"raw.size=1\": format raw has no \"size\"\nhint: nothing can be set on it"},
		{"raw", "qcow.compression=zstd", "setting \"qcow.compression=zstd\": format \"qcow\": no such format\nhint: did you mean \"qcow2\"?"},
		{"raw qcow2", "qcow2.compression=zstd qcow2.compression=zstd", "setting \"qcow2.compression=zstd\": qcow2.compression is set already"},
	} {
		_, err := set(t, c.formats, strings.Fields(c.settings)...)
		var m *Mistake
		if !errors.As(err, &m) || err.Error() != c.want {
			t.Errorf("%s: got %v\nwant %s", c.settings, err, c.want)
		}
	}
}
