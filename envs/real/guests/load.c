/* The workload of a guest: plays a story (envs/story.py) on real memory, and says each second how many touches it did of those it owed.

   Standard input: "tier RETOUCH_S WRITE_SHARE" for each tier, "step AT_S MIB MIB ..." with a size for each tier, then "seed N",
   "fill" (writes every page of the first step once, answers "filled"), "warm" (plays the first step until the next line comes), and
   "go SECONDS" (plays the story). Output: "s SECOND DONE OWED" each second, and "end". Touches of a tier are uniform over its pages and paced by the clock; what is owed for longer than LATE_S at the end of a
   second is dropped. A page that leaves a tier at a step goes to those that grow, the others are given back to the kernel. Page cache, CPU,
   disk and network of a story are not played. */

#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { TIERS = 8, STEPS = 256, PAGE = 4096, PAGES_PER_MIB = 256, SLICE_NS = 10000000 };

#define LATE_S 0.05

static int tiers, steps;
static double retouch_s[TIERS], write_share[TIERS], step_at_s[STEPS], step_mib[STEPS][TIERS];
static uint32_t *page_of[TIERS];
static size_t pages_in[TIERS];
static uint32_t *spare;
static size_t spares;
static char *memory;
static uint64_t state = 88172645463325252ULL;

static uint64_t drawn(void) { /* xorshift64 */
  state ^= state << 13; state ^= state >> 7; state ^= state << 17;
  return state;
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void take_step(int step) {
  static uint32_t loose[1 << 24];
  size_t free_pages = 0;
  for (int k = 0; k < tiers; k++) {
    size_t wanted = (size_t)(step_mib[step][k] * PAGES_PER_MIB);
    while (pages_in[k] > wanted) loose[free_pages++] = page_of[k][--pages_in[k]];
  }
  for (int k = 0; k < tiers; k++) {
    size_t wanted = (size_t)(step_mib[step][k] * PAGES_PER_MIB);
    while (pages_in[k] < wanted) page_of[k][pages_in[k]++] = free_pages ? loose[--free_pages] : spare[--spares];
  }
  while (free_pages) {
    uint32_t page = loose[--free_pages];
    madvise(memory + (size_t)page * PAGE, PAGE, MADV_DONTNEED);
    spare[spares++] = page;
  }
}

static void touch(int k) {
  volatile char *at = memory + (size_t)page_of[k][drawn() % pages_in[k]] * PAGE;
  if ((double)(drawn() >> 11) / 9007199254740992.0 < write_share[k]) *at = (char)drawn();
  else (void)*at;
}

static int heard(void) {
  struct pollfd input = {0, POLLIN, 0};
  return poll(&input, 1, 0) > 0;
}

static void play(int seconds, int warming) {
  double owed[TIERS] = {0}, begun = now_s(), slice_from = begun;
  long done = 0;
  int step = 0, second = 0;
  while (second < seconds) {
    struct timespec pause = {0, SLICE_NS};
    nanosleep(&pause, NULL);
    double now = now_s();
    if (warming && heard()) return;
    while (!warming && step + 1 < steps && step_at_s[step + 1] <= now - begun) take_step(++step);
    double left = 0.0;
    for (int k = 0; k < tiers; k++) {
      double more = pages_in[k] / retouch_s[k] * (now - slice_from);
      owed[k] += more; left += owed[k];
    }
    slice_from = now;
    double end = begun + second + 1;
    while (left >= 1.0 && now_s() < end) { /* tiers in turn by what they are owed */
      double at = (double)(drawn() >> 11) / 9007199254740992.0 * left;
      int k = 0;
      while (k + 1 < tiers && at >= owed[k]) at -= owed[k++];
      if (owed[k] < 1.0) { left -= owed[k]; if (left < 1.0) break; owed[k] = 0.0; continue; }
      touch(k); owed[k] -= 1.0; left -= 1.0; done++;
    }
    while (now_s() >= begun + second + 1 && second < seconds) {
      long dropped = 0;
      for (int k = 0; k < tiers; k++) { /* what a few slices owe is only late */
        double late = pages_in[k] / retouch_s[k] * LATE_S;
        if (owed[k] > late + 1.0) { dropped += (long)(owed[k] - late); owed[k] = late; }
      }
      if (!warming) printf("s %d %ld %ld\n", second, done, done + dropped);
      fflush(stdout);
      second++;
      done = 0;
    }
  }
  puts("end");
  fflush(stdout);
}

int main(void) {
  char line[4096];
  while (fgets(line, sizeof line, stdin)) {
    char *word = strtok(line, " \n");
    if (!word) continue;
    if (!strcmp(word, "tier") && tiers < TIERS) {
      retouch_s[tiers] = atof(strtok(NULL, " \n"));
      write_share[tiers++] = atof(strtok(NULL, " \n"));
    } else if (!strcmp(word, "step") && steps < STEPS) {
      step_at_s[steps] = atof(strtok(NULL, " \n"));
      for (int k = 0; k < tiers; k++) step_mib[steps][k] = atof(strtok(NULL, " \n"));
      steps++;
    } else if (!strcmp(word, "seed")) {
      state ^= strtoull(strtok(NULL, " \n"), NULL, 10) * 0x9E3779B97F4A7C15ULL;
      for (int i = 0; i < 20; i++) drawn();
    } else if (!strcmp(word, "fill")) {
      double most = 0.0;
      for (int s = 0; s < steps; s++) {
        double sum = 0.0;
        for (int k = 0; k < tiers; k++) sum += step_mib[s][k];
        if (sum > most) most = sum;
      }
      spares = (size_t)(most * PAGES_PER_MIB) + PAGES_PER_MIB;
      memory = mmap(NULL, spares * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      madvise(memory, spares * PAGE, MADV_NOHUGEPAGE);
      spare = malloc(spares * sizeof *spare);
      for (size_t i = 0; i < spares; i++) spare[i] = (uint32_t)(spares - 1 - i);
      for (int k = 0; k < tiers; k++) page_of[k] = malloc(spares * sizeof **page_of);
      take_step(0);
      for (int k = 0; k < tiers; k++)
        for (size_t i = 0; i < pages_in[k]; i++) memory[(size_t)page_of[k][i] * PAGE] = 1;
      puts("filled");
      fflush(stdout);
    } else if (!strcmp(word, "go")) {
      play(atoi(strtok(NULL, " \n")), 0);
    } else if (!strcmp(word, "warm")) {
      play(INT_MAX, 1);
    }
  }
  return 0;
}
