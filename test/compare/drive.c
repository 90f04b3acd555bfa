/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drive CLIENT SERVERS MARK: gives a director one step after the other, and says what becomes of each frame.
 *
 * A line of stdin is a frame in hexadecimal digits, `!` and a command, or `~` and milliseconds to wait. A frame goes out of the interface CLIENT, with
 * that fwmark. Then it is awaited on the interface SERVERS, where the director sends it: so the next step finds the
 * director done with this one. A line of stdout answers each frame: the number of its real server, which its MAC
 * 02:be:00:00:00:NUMBER tells, or `-` where the director sent it to nobody.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* From here on, the addresses of IPv4, a frame is sent on as it came; before, IPVS counts the TTL down. */
enum { UNCHANGED = ETH_HLEN + 12 };
enum { FRAME_BYTES_MAX = 256, WAIT_MS = 10 };

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* `protocol` 0: receives nothing. */
static int open_packets(const char *interface, int protocol)
{
	struct sockaddr_ll own = {.sll_family = AF_PACKET, .sll_protocol = htons(protocol)};
	int packets = socket(AF_PACKET, SOCK_RAW, 0);

	own.sll_ifindex = if_nametoindex(interface);
	if (packets < 0 || !own.sll_ifindex || bind(packets, (void *)&own, sizeof(own)))
		fail(interface);
	return packets;
}

static int digit(int character)
{
	const char *digits = "0123456789abcdef", *found = character ? strchr(digits, character) : NULL;

	return found ? (int)(found - digits) : -1;
}

static size_t read_frame(const char *line, unsigned char *frame)
{
	size_t bytes = 0;

	for (; digit(line[2 * bytes]) >= 0 && digit(line[2 * bytes + 1]) >= 0; bytes++)
		frame[bytes] = digit(line[2 * bytes]) << 4 | digit(line[2 * bytes + 1]);
	return bytes;
}

/* The real server that got this frame, -1 if none did. Any other frame there is an error: steps overlap. */
static int await_server(int servers, const unsigned char *sent, size_t bytes)
{
	static const unsigned char server_mac[] = {0x02, 0xbe, 0, 0, 0};
	static unsigned char frame[FRAME_BYTES_MAX];
	struct pollfd ready = {.fd = servers, .events = POLLIN};

	while (poll(&ready, 1, WAIT_MS) > 0) {
		ssize_t got = recv(servers, frame, sizeof(frame), MSG_TRUNC);

		if (got < ETH_HLEN || memcmp(frame, server_mac, sizeof(server_mac)))
			continue; /* not the director's: neighbour discovery */
		if ((size_t)got != bytes || memcmp(frame + UNCHANGED, sent + UNCHANGED, bytes - UNCHANGED)) {
			fprintf(stderr, "a frame came late\n");
			exit(1);
		}
		return frame[sizeof(server_mac)];
	}
	return -1;
}

int main(int argc, char **argv)
{
	static char line[2 * FRAME_BYTES_MAX + 2];
	static unsigned char frame[FRAME_BYTES_MAX];
	int client, servers, mark;

	if (argc != 4)
		return 2;
	client = open_packets(argv[1], 0);
	servers = open_packets(argv[2], ETH_P_ALL);
	mark = atoi(argv[3]);
	if (setsockopt(client, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		fail("SO_MARK");
	while (fgets(line, sizeof(line), stdin)) {
		size_t bytes = read_frame(line, frame);
		int server;

		if (line[0] == '!') {
			if (system(line + 1))
				fail(line);
			continue;
		}
		if (line[0] == '~') {
			poll(NULL, 0, atoi(line + 1));
			continue;
		}
		if (send(client, frame, bytes, 0) != (ssize_t)bytes)
			fail("send");
		server = await_server(servers, frame, bytes);
		if (server < 0)
			puts("-");
		else
			printf("%d\n", server);
	}
	return 0;
}
