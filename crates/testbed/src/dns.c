/*
 * Makes name resolution fail as in production, for `dns.rs`. Loaded with LD_PRELOAD.
 *
 * The first letter of a file decides about every name (an address is not a name):
 *     n  the name does not exist
 *     a  no server answers: try again later
 *     h  hang until the file changes
 * With anything else, names are resolved as usual. In the three cases no request leaves the machine.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

static char fault(void)
{
	const char *path = getenv("NAMES_FAULT");
	char letter = 0;
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file >= 0) {
		if (read(file, &letter, 1) != 1)
			letter = 0;
		close(file);
	}
	return letter;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	unsigned char address[sizeof(struct in6_addr)];
	if (node && !inet_pton(AF_INET, node, address) && !inet_pton(AF_INET6, node, address)) {
		while (fault() == 'h')
			usleep(5000);
		switch (fault()) {
		case 'n':
			return EAI_NONAME;
		case 'a':
			return EAI_AGAIN;
		}
	}
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	real = (__typeof__(real))dlsym(RTLD_NEXT, "getaddrinfo");
	return real(node, service, hints, found);
}
