// Package e2e drives the real docker command, with the freshly built plugin, against a
// real engine. The scripts are in testdata: each shows one subject from the user's side
// and can be read as documentation. They are compiled in with the build tag e2e:
//
//	go test -tags e2e ./e2e
//
// Every run has names, a Docker configuration and subnets (in 10.213.0.0/16) of its own,
// and every script removes what it made, also when it fails. What the engine has of the
// user's is not touched; bot-bottle-sidecars:latest, which any up builds where it is
// missing, stays.
//
// The environment of a script, besides what testscript itself provides:
//
//	$SLUG           a slug of the script's own; more are made by appending to it
//	$IMAGE          the same for images; more are made by appending to it
//	$POOL           what to give to --pool
//	$NET            the first three octets of a /24 of the script's own, used by no pool
//	$SERVER         the image of testdata/server, which serves HTTP on 8080 and echoes UDP on 8053
//	$DOCKER_CONFIG  a configuration directory with nothing but the plugin
//	$VERSION        the version that the plugin was built with
//
// and its commands:
//
//	[!] docker ARGS...             run the docker command, which must (not) succeed
//	status N                       the last docker command ended with exit status N
//	says TEXT                      it printed that line to stderr and nothing else anywhere
//	barred docker ARG...           the docker command does not get through to another network
//	resources                      list the containers, networks and images of the script
//	[!] get URL                    print what an HTTP server answers, asked from this machine
//	ask udp ADDRESS TEXT           print what a UDP server on this machine answers
//	capture VARIABLE [FIELD]       set a variable to the last output, or to a field of its JSON
//	field NAME VALUE               the last output is a JSON object that has the value there
//	instate CONTAINER STATE        wait until a container is in a state, such as running
//	alike CONTAINER CONTAINER      the two are the same to docker inspect, but for their names
//	[!] cmdlines TEXT docker ...   run the docker command; meanwhile no process (but some
//	                               process, with !) has TEXT on its command line
//	start NAME docker ...          run the docker command in a process group of its own
//	interrupt [-cli] NAME          press Ctrl-C there, or (-cli) interrupt only the CLI
//	[!] await NAME                 wait until it ends, and take its output and status
//	veil                           serve the engine's API at $VEILED and, with TLS and the
//	                               certificate ca.pem, at $VEILED_TLS; there, no bottles are
//	                               to be seen but the script's
//
// Conditions: [cli:N] and [engine:N] for docker and engines from major version N on, and
// [ipv6] where this machine has ::1.
package e2e
