package scan

import (
	"fmt"
	"strings"

	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
)

// libraryConfig is gitleaks' default configuration, compiled. Its detector is
// not used: it reads whole files into strings and runs each expression on all
// of them, and it knows no package, no container of ours and no masking.
func libraryConfig() (config.Config, error) {
	v := viper.New()
	v.SetConfigType("toml")
	if err := v.ReadConfig(strings.NewReader(config.DefaultConfig)); err != nil {
		return config.Config{}, fmt.Errorf("reading gitleaks' rules: %w", err)
	}
	var vc config.ViperConfig
	if err := v.Unmarshal(&vc); err != nil {
		return config.Config{}, fmt.Errorf("reading gitleaks' rules: %w", err)
	}
	c, err := vc.Translate()
	if err != nil {
		return config.Config{}, fmt.Errorf("compiling gitleaks' rules: %w", err)
	}
	return c, nil
}
