/*
 * Resolving names as it goes wrong in the field, for `names.rs`. Loaded with LD_PRELOAD.
 *
 * What a file says in its first letter is what becomes of every name (an address is no name):
 *     n  there is no such name
 *     a  no server answers: try again later
 *     h  nothing, until the file says something else
 * and with anything else they are looked up as always. No question leaves the machine meanwhile.
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
