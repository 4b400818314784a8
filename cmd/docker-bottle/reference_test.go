package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/docker/cli/cli/command"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/reference.md anew")

const referenceFile = "../../docs/reference.md"

// TestReference keeps the command reference what the commands themselves say.
func TestReference(t *testing.T) {
	dockerCLI, err := command.NewDockerCli()
	if err != nil {
		t.Fatal(err)
	}
	want := reference(newRootCommand(dockerCLI))
	if *update {
		if err := os.WriteFile(referenceFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/reference.md is not what the commands say; write it anew with make docs (-want +got):\n%s", diff)
	}
}

func reference(root *cobra.Command) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Command reference\n\nWritten from the commands by `make docs`.\n\n%s\n\n", root.Long)
	fmt.Fprintf(&out, "| command | what it does |\n| --- | --- |\n")
	for _, verb := range root.Commands() {
		fmt.Fprintf(&out, "| [`docker bottle %s`](#docker-bottle-%[1]s) | %s |\n", verb.Name(), verb.Short)
	}
	for _, verb := range root.Commands() {
		long := verb.Long
		if long == "" {
			long = verb.Short + "."
		}
		fmt.Fprintf(&out, "\n## docker bottle %s\n\n```text\ndocker bottle %s\n```\n\n", verb.Name(), verb.Use)
		if len(verb.Aliases) > 0 {
			fmt.Fprintf(&out, "Also: `%s`.\n\n", strings.Join(verb.Aliases, "`, `"))
		}
		writeProse(&out, long)
		if verb.Example != "" {
			fmt.Fprintf(&out, "### Examples\n\n```sh\n%s\n```\n\n", strings.ReplaceAll(strings.TrimPrefix(verb.Example, "  "), "\n  ", "\n"))
		}
		fmt.Fprintf(&out, "### Options\n\n| option | default | meaning |\n| --- | --- | --- |\n")
		verb.Flags().VisitAll(func(f *pflag.Flag) { writeFlag(&out, f) })
	}
	return out.Bytes()
}

// writeProse sets the indented lists that follow a heading in capitals as they are.
func writeProse(out *bytes.Buffer, text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		heading, list, found := strings.Cut(paragraph, "\n")
		if found && heading == strings.ToUpper(heading) {
			fmt.Fprintf(out, "### %s\n\n```text\n%s\n```\n\n", heading[:1]+strings.ToLower(heading[1:]), list)
			continue
		}
		fmt.Fprintf(out, "%s\n\n", paragraph)
	}
}

func writeFlag(out *bytes.Buffer, f *pflag.Flag) {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	value := ""
	if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" && f.DefValue != "0" {
		value = "`" + f.DefValue + "`"
	}
	usage := strings.ReplaceAll(strings.ReplaceAll(f.Usage, "|", `\|`), "\n", "<br>")
	fmt.Fprintf(out, "| %s | %s | %s |\n", name, value, usage)
}
