/* The part of NVML that the node reads, answered from the file named by FAKE_NVML_CONF. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_GPUS 16

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7 };

typedef int result;
typedef unsigned long long u64;
typedef struct { int index; } gpu;
typedef struct { u64 total, free, used; } memory_info;
typedef struct { unsigned int gpu, memory; } utilization_info;

static gpu gpus[MAX_GPUS];
static int users;

static int lookup(const char *key, char *value, size_t size) {
    const char *path = getenv("FAKE_NVML_CONF");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = strlen(key);
    char line[512];
    int found = 0;
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, key, length) || line[length] != '=') continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(value, size, "%s", line + length + 1);
        found = 1;
    }
    fclose(file);
    return found;
}

static u64 number(const char *key, u64 otherwise) {
    char value[64];
    return lookup(key, value, sizeof value) ? strtoull(value, NULL, 10) : otherwise;
}

static void gpu_key(gpu *device, const char *what, char *key, size_t size) {
    snprintf(key, size, "%d.%s", device->index, what);
}

static u64 gpu_number(gpu *device, const char *what, u64 otherwise) {
    char key[64];
    gpu_key(device, what, key, sizeof key);
    return number(key, otherwise);
}

static result gpu_text(gpu *device, const char *what, const char *otherwise, char *out, unsigned int size) {
    char key[64], value[256];
    gpu_key(device, what, key, sizeof key);
    if (!lookup(key, value, sizeof value)) snprintf(value, sizeof value, "%s-%d", otherwise, device->index);
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static result check(gpu *device) {
    u64 delay_ms = number("delay_ms", 0);
    if (!users) return UNINITIALIZED;
    if (delay_ms) usleep((useconds_t)delay_ms * 1000);
    return device ? (result)gpu_number(device, "error", SUCCESS) : SUCCESS;
}

#define CHECK(device) do { result failed = check(device); if (failed) return failed; } while (0)

result nvmlInitWithFlags(unsigned int flags) {
    result failed = (result)number("init", SUCCESS);
    (void)flags;
    if (failed) return failed;
    for (int i = 0; i < MAX_GPUS; i++) gpus[i].index = i;
    users++;
    return SUCCESS;
}

result nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

result nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(result code) {
    switch (code) {
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
    }
}

result nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    CHECK(NULL);
    snprintf(out, size, "580.95");
    return SUCCESS;
}

result nvmlDeviceGetCount_v2(unsigned int *count) {
    CHECK(NULL);
    *count = (unsigned int)number("count", 1);
    return SUCCESS;
}

result nvmlDeviceGetHandleByIndex_v2(unsigned int index, gpu **device) {
    CHECK(NULL);
    if (index >= number("count", 1) || index >= MAX_GPUS) return INVALID_ARGUMENT;
    *device = &gpus[index];
    return SUCCESS;
}

result nvmlDeviceGetName(gpu *device, char *out, unsigned int size) {
    CHECK(device);
    return gpu_text(device, "name", "NVIDIA Test GPU", out, size);
}

result nvmlDeviceGetUUID(gpu *device, char *out, unsigned int size) {
    CHECK(device);
    return gpu_text(device, "uuid", "GPU-00000000-0000-0000-0000-000000000000", out, size);
}

result nvmlDeviceGetMemoryInfo(gpu *device, memory_info *memory) {
    CHECK(device);
    memory->total = gpu_number(device, "memory_total", 24ull << 30);
    memory->used = gpu_number(device, "memory_used", 1ull << 30);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

result nvmlDeviceGetUtilizationRates(gpu *device, utilization_info *rates) {
    CHECK(device);
    rates->gpu = (unsigned int)gpu_number(device, "utilization", 0);
    rates->memory = 0;
    return SUCCESS;
}

result nvmlDeviceGetTemperature(gpu *device, int sensor, unsigned int *celsius) {
    CHECK(device);
    if (sensor) return INVALID_ARGUMENT;
    *celsius = (unsigned int)gpu_number(device, "temperature", 40);
    return SUCCESS;
}

result nvmlDeviceGetPowerUsage(gpu *device, unsigned int *milliwatts) {
    CHECK(device);
    *milliwatts = (unsigned int)gpu_number(device, "power_mw", 75000);
    return SUCCESS;
}

result nvmlDeviceGetCudaComputeCapability(gpu *device, int *major, int *minor) {
    CHECK(device);
    *major = 8;
    *minor = 9;
    return SUCCESS;
}
