package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/docker/cli/cli/command/formatter"
	"github.com/docker/cli/templates"

	"github.com/bot-bottle/docker-bottle/pkg/bundle"
)

const formatHelp = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format, one object a line
'TEMPLATE':         Print output using the given Go template`

// bundleView is a bundle as a row of up's output: templates see its fields, and JSON has
// them as they are.
type bundleView struct{ *bundle.Bundle }

// FullHeader returns the headings of the fields.
func (bundleView) FullHeader() any {
	return formatter.SubHeaderContext{
		"Slug": "SLUG", "Address": "ADDRESS", "Subnet": "SUBNET", "Gateway": "GATEWAY", "Ports": "PORTS",
		"Container": "CONTAINER", "ContainerID": "CONTAINER ID", "Network": "NETWORK", "NetworkID": "NETWORK ID",
		"Image": "IMAGE", "ImageID": "IMAGE ID", "HostIP": "HOST IP", "Daemons": "DAEMONS", "Health": "HEALTH",
	}
}

// Ports prints as docker ps shows ports, and can be ranged over.
func (v bundleView) Ports() portsView { return v.Bundle.Ports }

// summaryView is a bottle as a row of ls's output.
type summaryView struct{ bundle.Summary }

// FullHeader returns the headings of the fields.
func (summaryView) FullHeader() any {
	return formatter.SubHeaderContext{
		"Slug": "SLUG", "State": "STATE", "Status": "STATUS", "Image": "IMAGE",
		"Address": "ADDRESS", "Subnet": "SUBNET", "Ports": "PORTS",
	}
}

// Address is empty where a bottle has none.
func (v summaryView) Address() string {
	if !v.Summary.Address.IsValid() {
		return ""
	}
	return v.Summary.Address.String()
}

// Subnet is empty where a bottle has none.
func (v summaryView) Subnet() string {
	if !v.Summary.Subnet.IsValid() {
		return ""
	}
	return v.Summary.Subnet.String()
}

// Ports prints as docker ps shows ports, and can be ranged over.
func (v summaryView) Ports() portsView { return v.Summary.Ports }

type portsView []bundle.PublishedPort

func (p portsView) String() string {
	texts := make([]string, len(p))
	for i, port := range p {
		texts[i] = port.String()
	}
	return strings.Join(texts, ", ")
}

// printer writes rows in the format that was asked for.
type printer struct {
	out    io.Writer
	format formatter.Format
}

// newPrinter takes the values of --format and --quiet, the columns of the default table,
// and the template of the one value that --quiet prints. It refuses a template that does
// not parse or that names a field which the sample does not have, so that nothing is done
// whose result could not be printed.
func newPrinter(out io.Writer, format string, quiet bool, columns, one string, sample formatter.SubContext) (printer, error) {
	switch {
	case quiet:
		format = one
	case format == "" || format == formatter.TableFormatKey:
		format = formatter.TableFormatKey + " " + columns
	}
	p := printer{out: out, format: formatter.Format(format)}
	if p.format.IsJSON() {
		return p, nil
	}
	template, err := templates.Parse(strings.TrimPrefix(format, formatter.TableFormatKey))
	if err == nil {
		err = template.Execute(io.Discard, sample)
	}
	// Other failures depend on the values, which the sample does not have.
	if err != nil && (template == nil || strings.Contains(err.Error(), "can't evaluate field")) {
		return p, fmt.Errorf("invalid --format: %w", err)
	}
	return p, nil
}

// printRows writes one row for each view.
func printRows[V formatter.SubContext](p printer, views []V) error {
	var headings V
	context := formatter.Context{Output: p.out, Format: p.format}
	return context.Write(headings, func(format func(formatter.SubContext) error) error {
		for _, view := range views {
			if err := format(view); err != nil {
				return err
			}
		}
		return nil
	})
}
