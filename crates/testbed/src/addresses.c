/*
 * Devices at many addresses on one machine, for `addresses.rs`. Loaded with LD_PRELOAD.
 *
 * A client that connects from 127.0.0.N, for N from 2 to 254, appears at 203.0.113.N: an address for
 * documentation (RFC 5737), which no host has.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

int getpeername(int socket, struct sockaddr *address, socklen_t *length)
{
	int (*real)(int, struct sockaddr *, socklen_t *);
	real = (__typeof__(real))dlsym(RTLD_NEXT, "getpeername");
	int result = real(socket, address, length);
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	if (!result && *length >= sizeof(*v4) && address->sa_family == AF_INET) {
		in_addr_t seen = ntohl(v4->sin_addr.s_addr);
		if (seen > 0x7f000001 && seen < 0x7f0000ff)
			v4->sin_addr.s_addr = htonl(0xcb007100 | (seen & 0xff));
	}
	return result;
}
