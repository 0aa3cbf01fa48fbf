/*
 * Makes the start of threads fail as on a machine that has too many, for `scarcity.rs`. Loaded with LD_PRELOAD.
 *
 * While a file exists, no thread can be started.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
	const char *path = getenv("THREADS_FAULT");
	if (path && access(path, F_OK) == 0)
		return EAGAIN;
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	real = (__typeof__(real))dlsym(RTLD_NEXT, "pthread_create");
	return real(thread, attributes, start, argument);
}
