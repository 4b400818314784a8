package bundle

import (
	"errors"
	"strings"
	"testing"
)

func TestCheckSlug(t *testing.T) {
	tests := []struct {
		slug string
		want string // part of the reason; "" for a usable slug
	}{
		{"demo", ""},
		{"a", ""},
		{"7", ""},
		{"A_b.c-9", ""},
		{strings.Repeat("x", 63), ""},
		{"", "it is empty"},
		{strings.Repeat("x", 64), "it has 64 characters, at most 63 are allowed"},
		{"../x", "character 1 is '.': a slug starts with a letter or a digit"},
		{"-x", "character 1 is '-'"},
		{"_x", "character 1 is '_'"},
		{"a/b", "character 2 is '/': only letters, digits, '_', '.' and '-' are allowed"},
		{"ab c", "character 3 is ' '"},
		{"über", "character 1 is 'ü'"},
		{"aüb:c", "character 2 is 'ü'"},
		{"a\x00b", `character 2 is '\x00'`},
		{"a\n", `character 2 is '\n'`},
	}
	for _, tt := range tests {
		t.Run(tt.slug, func(t *testing.T) {
			err := CheckSlug(tt.slug)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var invalid *InvalidError
			if !errors.As(err, &invalid) || invalid.Field != "slug" || invalid.Value != tt.slug || !strings.Contains(invalid.Reason, tt.want) {
				t.Errorf("error is %v, want %q in it", err, tt.want)
			}
		})
	}
}

// The names are facts that other tools rely on.
func TestNames(t *testing.T) {
	if got := NetworkName("demo"); got != "bot-bottle-bundle-demo" {
		t.Errorf("network is %s", got)
	}
	if got := ContainerName("demo"); got != "bot-bottle-sidecars-demo" {
		t.Errorf("container is %s", got)
	}
	if DefaultImage != "bot-bottle-sidecars:latest" || DaemonsVariable != "BOT_BOTTLE_SIDECAR_DAEMONS" {
		t.Errorf("image %s, variable %s", DefaultImage, DaemonsVariable)
	}
}
