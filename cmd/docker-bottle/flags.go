package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// seconds is a flag that takes a number of seconds, as docker compose has it, or a Go
// duration.
type seconds time.Duration

func (s *seconds) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

func (s *seconds) Type() string { return "seconds" }

func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, numberErr := strconv.Atoi(text); numberErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d <= 0 {
		return fmt.Errorf("want a positive number of seconds or a duration such as 1m30s")
	}
	*s = seconds(d)
	return nil
}

// completeFixed offers a flag's values to shell completion.
func completeFixed(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag does not exist
	}
}
