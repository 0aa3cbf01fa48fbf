/*
 * Counts the memory on a process's heap, for `heap.rs`. Loaded with LD_PRELOAD.
 *
 * The kernel's numbers include free memory that the C library keeps, which depends on the order of
 * allocations. Here every block counts from malloc to free, with the size that the C library gave it and
 * the eight bytes in front of it.
 *
 * The counts are in a mapped file, so they can be read without the process's help.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct counts {
	_Atomic int64_t bytes;
	_Atomic int64_t blocks;
	_Atomic int64_t peak;
};

/* Used until the file exists: the first blocks are allocated before this library starts. */
static struct counts early;
static struct counts *_Atomic counts = &early;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void add(void *block, int sign)
{
	if (block) {
		int64_t size = sign * (int64_t)(malloc_usable_size(block) + 8);
		int64_t now = size + atomic_fetch_add_explicit(&counts->bytes, size, memory_order_relaxed);
		int64_t peak = atomic_load_explicit(&counts->peak, memory_order_relaxed);
		while (now > peak && !atomic_compare_exchange_weak(&counts->peak, &peak, now)) {
		}
		atomic_fetch_add_explicit(&counts->blocks, sign, memory_order_relaxed);
	}
}

static void *counted(void *block)
{
	add(block, 1);
	return block;
}

void *malloc(size_t size) { return counted(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { return counted(__libc_calloc(count, size)); }
void *memalign(size_t align, size_t size) { return counted(__libc_memalign(align, size)); }
void *aligned_alloc(size_t align, size_t size) { return counted(__libc_memalign(align, size)); }

int posix_memalign(void **block, size_t align, size_t size)
{
	void *made = counted(__libc_memalign(align, size));
	if (!made)
		return ENOMEM;
	*block = made;
	return 0;
}

void *realloc(void *block, size_t size)
{
	/* Subtracted first: afterwards the old block may belong to another thread. */
	add(block, -1);
	void *moved = __libc_realloc(block, size);
	if (moved)
		add(moved, 1);
	else if (size)
		add(block, 1); /* failed, so the old block stays */
	return moved;
}

void free(void *block)
{
	/* free() must leave errno alone. */
	int error = errno;
	add(block, -1);
	__libc_free(block);
	errno = error;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("HEAP_COUNTS");
	int file = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	if (file < 0)
		return;
	if (ftruncate(file, sizeof(struct counts)) == 0) {
		struct counts *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
		if (shared != MAP_FAILED) {
			/* There is no other thread yet. */
			shared->bytes = early.bytes;
			shared->blocks = early.blocks;
			shared->peak = early.peak;
			counts = shared;
		}
	}
	close(file);
}
