/*
 * A wall clock that a test sets while a process runs, for `wall.rs`. Loaded with LD_PRELOAD.
 *
 * The first eight bytes of a file are the nanoseconds by which the wall clock is ahead. The next eight are the
 * nanoseconds for which the machine was suspended, which CLOCK_BOOTTIME counts as well. The monotonic clocks
 * do not change. The whole process sees these clocks: the broker, the plugin, and the C library's time(),
 * which does not use clock_gettime() and is replaced here as well.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static _Atomic int64_t none[2];
static _Atomic int64_t *ahead = none;

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = (int)syscall(SYS_clock_gettime, clock, time);
	int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
	if (result == 0 && (is_wall || clock == CLOCK_BOOTTIME)) {
		int64_t now = time->tv_sec * SECOND + time->tv_nsec + atomic_load(ahead + 1);
		if (is_wall)
			now += atomic_load(ahead);
		time->tv_sec = now / SECOND;
		time->tv_nsec = now % SECOND;
	}
	return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;
	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *place)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	if (place)
		*place = now.tv_sec;
	return now.tv_sec;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("WALL_AHEAD");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (file < 0)
		return;
	void *shared = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
	if (shared != MAP_FAILED)
		ahead = shared;
	close(file);
}
