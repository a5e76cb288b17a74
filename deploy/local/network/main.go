// The network of a breakable stack: toxiproxy, and a fault it does not come with (loss.go).
package main

import (
	"flag"
	"net"
	"os"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

func main() {
	host := flag.String("host", "127.0.0.1", "where it is told of faults")
	port := flag.String("port", "8474", "and on which port")
	config := flag.String("config", "", "JSON file with the proxies")
	flag.Parse()

	logger := zerolog.New(os.Stdout).With().Timestamp().Logger()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), logger)
	server.PopulateConfig(*config)
	if err := server.Listen(net.JoinHostPort(*host, *port)); err != nil {
		logger.Fatal().Err(err).Msg("it cannot listen")
	}
}
