/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ping ADDRESS COUNT BYTES: as many ICMP echo requests, one after the other; a line with its length for each reply that
 * is what was sent. No package that the tests need has a ping.
 */
#include <arpa/inet.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { BYTES_MAX = 60000, WAIT_SECONDS = 1 };

int main(int argc, char **argv)
{
	static unsigned char request[BYTES_MAX], reply[BYTES_MAX];
	const struct timeval wait = {.tv_sec = WAIT_SECONDS};
	struct sockaddr_in to = {.sin_family = AF_INET};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6};
	/* ICMPv6 has these fields in the same places (RFC 4443 section 4.1). */
	struct icmphdr *header = (void *)request;
	const struct icmphdr *answer = (const void *)reply;
	int count, bytes, missing = 0, echo, is_ipv6;

	if (argc != 4)
		return 2;
	is_ipv6 = inet_pton(AF_INET6, argv[1], &to6.sin6_addr) == 1;
	if (!is_ipv6 && inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	count = atoi(argv[2]);
	bytes = atoi(argv[3]);
	if (bytes < (int)sizeof(*header) || bytes > BYTES_MAX)
		return 2;
	/* The kernel fills in identifier and checksum, and hands over the replies to this socket alone. */
	echo = is_ipv6 ? socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6) : socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	if (echo < 0 || setsockopt(echo, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
	    connect(echo, is_ipv6 ? (void *)&to6 : (void *)&to, is_ipv6 ? sizeof(to6) : sizeof(to))) {
		perror("ping");
		return 2;
	}
	header->type = is_ipv6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
	for (int i = sizeof(*header); i < bytes; i++)
		request[i] = i;
	for (int i = 0; i < count; i++) {
		ssize_t got;

		header->un.echo.sequence = htons(i);
		if (send(echo, request, bytes, 0) != bytes) {
			perror("ping");
			return 2;
		}
		got = recv(echo, reply, sizeof(reply), 0);
		if (got == bytes && answer->type == (is_ipv6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) && answer->un.echo.sequence == htons(i) &&
		    !memcmp(reply + sizeof(*header), request + sizeof(*header), bytes - sizeof(*header)))
			printf("%d\n", bytes);
		else
			missing++;
	}
	return missing ? 1 : 0;
}
