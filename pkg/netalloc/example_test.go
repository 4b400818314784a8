package netalloc_test

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/bot-bottle/docker-bottle/pkg/netalloc"
)

// What a bottle's addresses are, before anything runs.
func Example() {
	subnet := netalloc.DefaultPool().Home("demo")
	fmt.Println("subnet  ", subnet)
	fmt.Println("gateway ", netalloc.Gateway(subnet))
	fmt.Println("bundle  ", netalloc.Bundle(subnet))
	fmt.Println("dynamic ", netalloc.DynamicRange(subnet))
	fmt.Println("loopback", netalloc.LoopbackHome("demo"))
	// Output:
	// subnet   10.120.132.0/24
	// gateway  10.120.132.1
	// bundle   10.120.132.2
	// dynamic  10.120.132.128/25
	// loopback 127.29.1.176
}

func ExamplePool_Allocate() {
	pool := netalloc.DefaultPool()
	networks := []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16"), pool.Home("demo")}
	vpn := []netip.Prefix{netip.MustParsePrefix("10.112.0.0/14")}
	subnet, err := pool.Allocate("demo", networks, vpn)
	fmt.Println(subnet, err)

	_, err = pool.Allocate("demo", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil)
	var exhausted *netalloc.ExhaustedError
	fmt.Println(errors.As(err, &exhausted), exhausted.Taken)
	// Output:
	// 10.124.154.0/24 <nil>
	// true 4096
}

func ExamplePool_Order() {
	n := 0
	for subnet := range netalloc.DefaultPool().Order("demo") {
		fmt.Println(subnet)
		if n++; n == 3 {
			break
		}
	}
	// Output:
	// 10.120.132.0/24
	// 10.114.143.0/24
	// 10.124.154.0/24
}

func ExampleParsePool() {
	pool, err := netalloc.ParsePool("base=172.20.0.0/16,size=26")
	fmt.Println(pool, pool.Len(), err)
	_, err = netalloc.ParsePool("10.1.2.3/24")
	fmt.Println(err)
	// Output:
	// 172.20.0.0/16,size=26 1024 <nil>
	// pool "10.1.2.3/24": 10.1.2.3/24 is not a network address: did you mean 10.1.2.0/24?
}
