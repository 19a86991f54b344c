/* A small libnvidia-ml: two devices, whose state is read from the file named by NVML_STUB_STATE at each call.
 * Lines of the file: "temp0 40", "used0 1048576", "xid0 79", "ecc1 3", "pid0 1234 1048576", "lost1 1", "hang 1",
 * "nodriver 1", "mig1 1". Signatures are those of nvml.h. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct device { int index; } *nvmlDevice_t;
typedef struct set { int registered[2]; int told[2]; } *nvmlEventSet_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned int pid; unsigned long long usedGpuMemory; unsigned int gi, ci; } nvmlProcessInfo_t;
typedef struct { nvmlDevice_t device; unsigned long long type, data; unsigned int gi, ci; } nvmlEventData_t;

static struct device devices[2] = {{0}, {1}};
static struct device slices[2] = {{10}, {11}};
static struct set events;

/* The last value of a key, or the fallback. */
static long long state(const char *key, int index, long long fallback) {
  char name[32], line[256], word[32];
  long long value, found = fallback;
  const char *path = getenv("NVML_STUB_STATE");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return fallback;
  if (index >= 0) snprintf(name, sizeof name, "%s%d", key, index);
  else snprintf(name, sizeof name, "%s", key);
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "%31s %lld", word, &value) == 2 && strcmp(word, name) == 0) found = value;
  fclose(file);
  return found;
}

static int lost(nvmlDevice_t d) {
  if (state("hang", -1, 0)) for (;;) pause();
  return d->index < 10 && state("lost", d->index, 0);
}

int nvmlInit_v2(void) { return state("nodriver", -1, 0) ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) {
  return code == 15 ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : code == 3 ? "Not Supported" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { snprintf(text, length, "550.54.15"); return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
  if (index > 1) return 2;
  if (lost(&devices[index])) return 15;
  *device = &devices[index];
  return 0;
}
int nvmlDeviceGetUUID(nvmlDevice_t d, char *text, unsigned int length) {
  if (lost(d)) return 15;
  snprintf(text, length, d->index < 10 ? "GPU-00000000-0000-0000-0000-00000000000%d" : "MIG-00000000-0000-0000-0000-0000000000%d", d->index);
  return 0;
}
int nvmlDeviceGetName(nvmlDevice_t d, char *text, unsigned int length) {
  snprintf(text, length, d->index < 10 ? "NVIDIA H100 80GB HBM3" : "NVIDIA H100 80GB HBM3 MIG 1g.10gb");
  return 0;
}
int nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *memory) {
  if (lost(d)) return 15;
  memory->total = d->index < 10 ? 85899345920ull : 10737418240ull;
  memory->used = state("used", d->index, 1048576);
  memory->free = memory->total - memory->used;
  return 0;
}
int nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *rates) {
  rates->gpu = state("load", d->index, 7);
  rates->memory = 99;
  return 0;
}
int nvmlDeviceGetTemperature(nvmlDevice_t d, int sensor, unsigned int *temperature) {
  if (lost(d)) return 15;
  if (sensor != 0) return 2;
  *temperature = state("temp", d->index, 40);
  return 0;
}
int nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned int *milliwatts) { *milliwatts = 69430; return 0; }
/* nvmlDeviceGetEnforcedPowerLimit is left out: an older library. */
int nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, int kind, int counter, unsigned long long *count) {
  if (counter != 0) return 2;
  if (d->index == 0) return 3;
  *count = kind == 1 ? state("ecc", d->index, 0) : 5;
  return 0;
}
int nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned int *c, unsigned int *u, unsigned int *pending, unsigned int *failed) {
  *c = 1; *u = 2; *pending = 0; *failed = state("remap", d->index, 0);
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *count, nvmlProcessInfo_t *infos) {
  char line[256], name[32], word[32];
  long long pid, memory;
  unsigned int n = 0, room = *count;
  const char *path = getenv("NVML_STUB_STATE");
  FILE *file = path ? fopen(path, "r") : NULL;
  snprintf(name, sizeof name, "pid%d", d->index);
  while (file && fgets(line, sizeof line, file))
    if (sscanf(line, "%31s %lld %lld", word, &pid, &memory) == 3 && strcmp(word, name) == 0) {
      if (infos && n < room) {
        infos[n].pid = pid;
        infos[n].usedGpuMemory = memory < 0 ? ~0ull : (unsigned long long)memory;
      }
      n++;
    }
  if (file) fclose(file);
  *count = n;
  return n > room ? 7 : 0;
}
int nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending) {
  *current = *pending = state("mig", d->index, 0);
  return 0;
}
int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int index, nvmlDevice_t *slice) {
  if (index > 1) return 6;
  *slice = &slices[index];
  return 0;
}
int nvmlEventSetCreate(nvmlEventSet_t *set) { *set = &events; return 0; }
int nvmlDeviceRegisterEvents(nvmlDevice_t d, unsigned long long types, nvmlEventSet_t set) {
  if (types != 8) return 2;
  set->registered[d->index] = 1;
  return 0;
}
int nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout) {
  for (int i = 0; i < 2; i++) {
    int xid = state("xid", i, 0);
    if (set->registered[i] && xid && set->told[i] != xid) {
      set->told[i] = xid;
      data->device = &devices[i];
      data->type = 8;
      data->data = xid;
      return 0;
    }
  }
  return 10;
}
