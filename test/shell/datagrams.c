/* SPDX-License-Identifier: Apache-2.0 */
/* datagrams NAME: listens where a service manager would, at a path or an abstract name (@...), and prints each datagram, its
 * newlines as `|`, on a line. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **arguments)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	size_t size = count == 2 ? strlen(arguments[1]) : 0;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[4096];

	if (size == 0 || size >= sizeof(at.sun_path) || fd < 0)
		return 2;
	memcpy(at.sun_path, arguments[1], size);
	if (at.sun_path[0] == '@')
		at.sun_path[0] = 0;
	if (bind(fd, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + size) < 0) {
		perror("bind");
		return 1;
	}
	puts("listening");
	for (;;) {
		fflush(stdout);
		ssize_t octets = recv(fd, text, sizeof(text) - 1, 0);

		if (octets < 0)
			return 1;
		for (ssize_t i = 0; i < octets; i++)
			if (text[i] == '\n')
				text[i] = '|';
		printf("%.*s\n", (int)octets, text);
	}
}
