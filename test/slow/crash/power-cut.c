/*
 * Cuts the power of an ext4 file system: from here on nothing reaches its disk, not even its
 * journal, and everything not yet flushed is lost. Usage: power-cut MOUNTPOINT
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
/* The flags of the call: 2 shuts down without flushing the journal. */
#define NO_LOG_FLUSH 2

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: power-cut MOUNTPOINT\n");
    return 2;
  }
  uint32_t flags = NO_LOG_FLUSH;
  int directory = open(argv[1], O_RDONLY);
  if (directory < 0 || ioctl(directory, EXT4_IOC_SHUTDOWN, &flags) != 0) {
    perror(argv[1]);
    return 1;
  }
  return 0;
}
