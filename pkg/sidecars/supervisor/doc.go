// Package supervisor runs the daemons of a bundle as PID 1 of its container.
//
// # Daemons
//
// Every daemon is a child process in a process group of its own, so that one
// that crashes, leaks or is killed takes nothing else with it. A daemon is
// either built in, and then runs as the supervisor's own executable started
// again with the arguments "daemon NAME", or it is an executable
// [DaemonDir]/NAME. An executable takes precedence over a built-in of the
// same name. [DaemonDir]/NAME.args has an executable's arguments, one a line,
// and [DaemonDir]/NAME.env the variables of this daemon only, KEY=VALUE lines,
// which take precedence over those of the container. In both, blank lines and
// lines that begin with "#" do not count. A daemon stays in the foreground: when its process ends, for
// whatever reason and with whatever status, it has failed, and what is left of
// its process group is killed.
//
// Daemons are started in the order named, each when the one before it is ready
// or [Limits.ReadyWait] has passed. A failed one is started again after a delay
// that doubles with every failure inside [Limits.Window]; one failure more than
// [Limits.Failures] in that window and the supervisor gives up, stops the
// others and returns. A built-in that refuses its configuration is not started
// again at all.
//
// # Signals
//
// SIGTERM and SIGINT stop the bundle: the signal is handed to the process group
// of every daemon, and what still runs after [Limits.Grace] is killed. SIGHUP is
// handed to every daemon's process, to a built-in as soon as it is ready.
// Orphans are reaped whether or not the supervisor is PID 1.
//
// # Health
//
// A bundle is healthy while every named daemon is. A built-in is healthy when
// it answers, an executable when it runs and its [DaemonDir]/NAME.health, where
// there is one, exits 0. The supervisor answers questions about this on an
// abstract Unix socket (unix(7)), which needs neither a writable file system
// nor a port; see [HealthAddress] and [AskHealth].
//
// # Log
//
// What the daemons write, and what the supervisor itself has to say, goes to one
// [Log], a line at a time.
//
// The processes need Linux. [Config], [Log] and the errors work anywhere.
package supervisor
