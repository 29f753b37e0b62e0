/* Stub libnvidia-ml.so.1 for tests: a handful of NVML entry points driven by a text file.
 *   build:  cc -shared -fPIC -O1 -Wall -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 nvml_stub.c
 *   use:    LD_LIBRARY_PATH=<dir> FAKE_NVML=<file> python ...      (pynvml does CDLL("libnvidia-ml.so.1"))
 * The file is read again on every call whose mtime/size changed, so a test can change it under a running service.
 *   gpus=8                      count                     (0..64)
 *   name=NVIDIA A100-SXM4-80GB  mem=85899345920           defaults for all
 *   topo=nvswitch|pairs|pcie    nvlink layout             (pairs: 0-1,2-3,...; pcie: none)
 *   numa=2                      GPUs are split evenly over this many sockets
 *   gpu.3.uuid=GPU-...  gpu.3.name= gpu.3.mem= gpu.3.used= gpu.3.util= gpu.3.temp= gpu.3.power= gpu.3.ecc= gpu.3.remap_pending=
 *   gpu.3.remap_failed=1  gpu.3.retire_pending=1  gpu.3.no_events=1   (memory beyond repair; no event support)
 *   gpu.3.lost=1                every call on it returns NVML_ERROR_GPU_IS_LOST (15)
 *   gpu.3.mig=2                 MIG on, with that many 1g.10gb instances (UUID MIG-...)
 *   gpu.3.proc=PID:BYTES        one compute process (repeat the line for more)
 *   init=9                      nvmlInit returns this code (9 = driver not loaded, 18 = driver/library mismatch)
 *   hang=SECONDS                nvmlDeviceGetCount and nvmlEventSetWait sleep that long first, holding no lock (a driver that does not answer)
 *   event=SEQ:GPU:TYPE:DATA     delivered once per event set, in SEQ order (TYPE 8 = XID)                               */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#define X __attribute__((visibility("default")))
#define MAXG 64
#define MAXM 7
enum { OK = 0, UNINIT = 1, INVAL = 2, NOTSUP = 3, NOTFOUND = 6, SMALL = 7, TIMEOUT = 10, LOST = 15 };
typedef struct { int pid; unsigned long long bytes; } proc;
typedef struct gpu { int idx, mig_idx; struct gpu *parent; char uuid[96], name[96]; unsigned long long mem, used, ecc; unsigned util, temp, power, remap, remap_failed, retire, no_events;
                 int lost, mig, nproc, persist; proc p[32]; struct gpu *m; } gpu;
typedef struct { long seq; int gpu; unsigned long long type, data; } ev;
static gpu G[MAXG], M[MAXG][MAXM]; static int NG = 8, NUMA = 2, INIT = 0, TOPO = 0, HANG = 0, ready = 0, NE; static ev E[256];
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER; static struct timespec lm; static long long lsz = -1; static int loaded;
static void defaults(void) {
    NG = 8; NUMA = 2; INIT = 0; TOPO = 0; HANG = 0; NE = 0;
    for (int i = 0; i < MAXG; i++) { gpu *g = &G[i]; int keep = g->persist; memset(g, 0, sizeof *g); g->persist = keep; g->idx = i; g->mig_idx = -1; g->m = M[i];
        snprintf(g->uuid, 96, "GPU-%08x-0000-4000-8000-%012x", 0xa100 + i, i); strcpy(g->name, "NVIDIA A100-SXM4-80GB");
        g->mem = 85899345920ULL; g->used = 458752ULL << 10; g->temp = 30 + i; g->power = 60000 + 500 * i; }
}
static void load(void) {                                    /* caller holds mu */
    const char *f = getenv("FAKE_NVML"); struct stat st;
    if (!f || stat(f, &st)) { if (!loaded) { defaults(); loaded = 1; } goto mig; }
    if (loaded && st.st_mtim.tv_sec == lm.tv_sec && st.st_mtim.tv_nsec == lm.tv_nsec && st.st_size == lsz) return;
    FILE *h = fopen(f, "r"); if (!h) return;
    defaults(); loaded = 1; lm = st.st_mtim; lsz = st.st_size; char l[512];
    while (fgets(l, sizeof l, h)) {
        l[strcspn(l, "\r\n")] = 0; char *v = strchr(l, '='); if (!v || *l == '#') continue; *v++ = 0; int i, n = 0;
        if (!strcmp(l, "gpus")) NG = atoi(v) < MAXG ? atoi(v) : MAXG;
        else if (!strcmp(l, "numa")) NUMA = atoi(v) > 0 ? atoi(v) : 1;
        else if (!strcmp(l, "init")) INIT = atoi(v);
        else if (!strcmp(l, "hang")) HANG = atoi(v);
        else if (!strcmp(l, "topo")) TOPO = !strcmp(v, "pairs") ? 1 : !strcmp(v, "pcie") ? 2 : 0;
        else if (!strcmp(l, "name")) for (i = 0; i < MAXG; i++) snprintf(G[i].name, 96, "%s", v);
        else if (!strcmp(l, "mem")) for (i = 0; i < MAXG; i++) G[i].mem = strtoull(v, 0, 10);
        else if (!strcmp(l, "event") && NE < 256) { ev *e = &E[NE]; if (sscanf(v, "%ld:%d:%llu:%llu", &e->seq, &e->gpu, &e->type, &e->data) == 4) NE++; }
        else if (sscanf(l, "gpu.%d.%n", &i, &n) == 1 && n && i >= 0 && i < MAXG) { gpu *g = &G[i]; char *k = l + n; unsigned long long u = strtoull(v, 0, 10);
            if (!strcmp(k, "uuid")) snprintf(g->uuid, 96, "%s", v); else if (!strcmp(k, "name")) snprintf(g->name, 96, "%s", v);
            else if (!strcmp(k, "mem")) g->mem = u; else if (!strcmp(k, "used")) g->used = u; else if (!strcmp(k, "util")) g->util = u;
            else if (!strcmp(k, "temp")) g->temp = u; else if (!strcmp(k, "power")) g->power = u; else if (!strcmp(k, "ecc")) g->ecc = u;
            else if (!strcmp(k, "remap_pending")) g->remap = u; else if (!strcmp(k, "remap_failed")) g->remap_failed = u;
            else if (!strcmp(k, "retire_pending")) g->retire = u; else if (!strcmp(k, "no_events")) g->no_events = u; else if (!strcmp(k, "lost")) g->lost = u; else if (!strcmp(k, "mig")) g->mig = u > MAXM ? MAXM : u;
            else if (!strcmp(k, "proc") && g->nproc < 32) { proc *p = &g->p[g->nproc]; if (sscanf(v, "%d:%llu", &p->pid, &p->bytes) == 2) g->nproc++; } }
    }
    fclose(h);
mig:
    for (int i = 0; i < MAXG; i++) for (int j = 0; j < MAXM; j++) { gpu *m = &M[i][j]; memset(m, 0, sizeof *m); m->idx = i; m->mig_idx = j; m->parent = &G[i];
        snprintf(m->uuid, 96, "MIG-%08x-0000-5000-8000-%012x", 0xa100 + i, j); snprintf(m->name, 96, "%.70s MIG 1g.10gb", G[i].name); m->mem = G[i].mem / 8; }
}
static void lk(void) { pthread_mutex_lock(&mu); load(); }
static int ul(int r) { pthread_mutex_unlock(&mu); return r; }
static int bad(gpu *g) { if (!ready) return UNINIT; if (!g) return INVAL; gpu *p = g->parent ? g->parent : g; if (p->idx >= NG) return LOST; return p->lost ? LOST : OK; }
#define DEV(g) lk(); { int r_ = bad(g); if (r_) return ul(r_); }
static int str(char *b, unsigned n, const char *s) { if (!b) return INVAL; if (strlen(s) + 1 > n) return SMALL; strcpy(b, s); return OK; }

X int nvmlInitWithFlags(unsigned f) { (void)f; lk(); if (INIT) return ul(INIT); ready++; return ul(OK); }
X int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
X int nvmlShutdown(void) { pthread_mutex_lock(&mu); if (!ready) return ul(UNINIT); ready--; return ul(OK); }
X const char *nvmlErrorString(int r) { static __thread char b[32]; snprintf(b, 32, "fake nvml error %d", r); return b; }
X int nvmlSystemGetDriverVersion(char *b, unsigned n) { return str(b, n, "570.133.20"); }
X int nvmlSystemGetNVMLVersion(char *b, unsigned n) { return str(b, n, "12.570.133.20"); }
X int nvmlSystemGetCudaDriverVersion(int *v) { *v = 12080; return OK; }
X int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12080; return OK; }
static void hang(void) { lk(); struct timespec t = { HANG, 0 }; ul(OK); if (t.tv_sec > 0) nanosleep(&t, 0); }
X int nvmlDeviceGetCount_v2(unsigned *n) { hang(); lk(); if (!ready) return ul(UNINIT); *n = NG; return ul(OK); }
X int nvmlDeviceGetHandleByIndex_v2(unsigned i, gpu **g) { lk(); if (!ready) return ul(UNINIT); if ((int)i >= NG) return ul(INVAL); if (G[i].lost) return ul(LOST); *g = &G[i]; return ul(OK); }
X int nvmlDeviceGetHandleByUUID(const char *u, gpu **g) { lk(); if (!ready) return ul(UNINIT);
    for (int i = 0; i < NG; i++) { if (!strcmp(G[i].uuid, u)) { *g = &G[i]; return ul(G[i].lost ? LOST : OK); } for (int j = 0; j < G[i].mig; j++) if (!strcmp(M[i][j].uuid, u)) { *g = &M[i][j]; return ul(OK); } }
    return ul(NOTFOUND); }
X int nvmlDeviceGetHandleByPciBusId_v2(const char *s, gpu **g) { unsigned d, b, x; if (sscanf(s, "%x:%x:%x", &d, &b, &x) < 2) return INVAL; lk(); if ((int)b - 16 < 0 || (int)b - 16 >= NG) return ul(NOTFOUND); *g = &G[b - 16]; return ul(OK); }
X int nvmlDeviceGetIndex(gpu *g, unsigned *i) { DEV(g); *i = g->mig_idx >= 0 ? g->mig_idx : g->idx; return ul(OK); }
X int nvmlDeviceGetMinorNumber(gpu *g, unsigned *i) { DEV(g); *i = g->idx; return ul(OK); }
X int nvmlDeviceGetUUID(gpu *g, char *b, unsigned n) { DEV(g); return ul(str(b, n, g->uuid)); }
X int nvmlDeviceGetName(gpu *g, char *b, unsigned n) { DEV(g); return ul(str(b, n, g->name)); }
X int nvmlDeviceGetSerial(gpu *g, char *b, unsigned n) { DEV(g); char s[32]; snprintf(s, 32, "13200000%05d", g->idx); return ul(str(b, n, s)); }
X int nvmlDeviceGetArchitecture(gpu *g, unsigned *a) { DEV(g); *a = 7; return ul(OK); }              /* 7 = Ampere */
X int nvmlDeviceGetCudaComputeCapability(gpu *g, int *a, int *b) { DEV(g); *a = 8; *b = 0; return ul(OK); }
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } pci;
static void fillpci(int i, pci *p) { memset(p, 0, sizeof *p); p->bus = 16 + i; p->pciDeviceId = 0x20B210DE; snprintf(p->busIdLegacy, 16, "0000:%02X:00.0", 16 + i); snprintf(p->busId, 32, "00000000:%02X:00.0", 16 + i); }
X int nvmlDeviceGetPciInfo_v3(gpu *g, pci *p) { DEV(g); fillpci(g->idx, p); return ul(OK); }
X int nvmlDeviceGetMemoryInfo(gpu *g, unsigned long long *m) { DEV(g); m[0] = g->mem; m[2] = g->used; m[1] = g->mem - g->used; return ul(OK); }
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } mem2;
X int nvmlDeviceGetMemoryInfo_v2(gpu *g, mem2 *m) { DEV(g); m->total = g->mem; m->reserved = 600ULL << 20; m->used = g->used; m->free = g->mem - g->used - m->reserved; return ul(OK); }
X int nvmlDeviceGetUtilizationRates(gpu *g, unsigned *u) { DEV(g); if (g->mig || g->parent) return ul(NOTSUP); u[0] = g->util; u[1] = g->util / 2; return ul(OK); }
X int nvmlDeviceGetTemperature(gpu *g, unsigned s, unsigned *t) { DEV(g); if (s) return ul(INVAL); *t = g->temp; return ul(OK); }
X int nvmlDeviceGetTemperatureV(gpu *g, int *t) { DEV(g); t[2] = g->temp; return ul(OK); }
X int nvmlDeviceGetPowerUsage(gpu *g, unsigned *t) { DEV(g); if (g->parent) return ul(NOTSUP); *t = g->power; return ul(OK); }
X int nvmlDeviceGetEnforcedPowerLimit(gpu *g, unsigned *t) { DEV(g); *t = 400000; return ul(OK); }
X int nvmlDeviceGetPersistenceMode(gpu *g, unsigned *t) { DEV(g); *t = g->persist; return ul(OK); }
X int nvmlDeviceSetPersistenceMode(gpu *g, unsigned t) { DEV(g); g->persist = t; return ul(OK); }
X int nvmlDeviceGetTopologyCommonAncestor(gpu *a, gpu *b, unsigned *l) { DEV(a); { int r = bad(b); if (r) return ul(r); } if (a->parent || b->parent) return ul(NOTSUP);
    int per = (NG + NUMA - 1) / NUMA; if (a == b) *l = 0; else if (a->idx / per != b->idx / per) *l = 50; else if (a->idx / 2 == b->idx / 2) *l = 10; else *l = 40; return ul(OK); }
static int linked(int i, int j) { return i != j && (TOPO == 0 || (TOPO == 1 && i / 2 == j / 2)); }
X int nvmlDeviceGetP2PStatus(gpu *a, gpu *b, unsigned k, unsigned *s) { DEV(a); { int r = bad(b); if (r) return ul(r); } *s = k == 2 ? (linked(a->idx, b->idx) ? 0 : 5) : 0; return ul(OK); }
X int nvmlDeviceGetNvLinkState(gpu *g, unsigned l, unsigned *a) { DEV(g); if (g->parent || TOPO == 2) return ul(NOTSUP); if (l >= 12) return ul(INVAL); *a = TOPO == 0 || (g->idx ^ 1) < NG; return ul(OK); }
X int nvmlDeviceGetNvLinkRemoteDeviceType(gpu *g, unsigned l, unsigned *t) { DEV(g); if (TOPO == 2) return ul(NOTSUP); if (l >= 12) return ul(INVAL); *t = TOPO == 0 ? 2 : 0; return ul(OK); }
X int nvmlDeviceGetNvLinkRemotePciInfo_v2(gpu *g, unsigned l, pci *p) { DEV(g); if (TOPO == 2) return ul(NOTSUP); if (l >= 12) return ul(INVAL);
    if (TOPO == 1) fillpci(g->idx ^ 1, p); else { memset(p, 0, sizeof *p); p->bus = 0xc0 + l / 2; snprintf(p->busId, 32, "00000000:%02X:00.0", 0xc0 + l / 2); } return ul(OK); }
X int nvmlDeviceGetCpuAffinity(gpu *g, unsigned n, unsigned long *s) { DEV(g); int per = (NG + NUMA - 1) / NUMA; memset(s, 0, n * sizeof *s); for (int c = 0; c < 32; c++) { int k = (g->idx / per) * 32 + c; if ((unsigned)k / 64 < n) s[k / 64] |= 1UL << (k % 64); } return ul(OK); }
X int nvmlDeviceGetNumaNodeId(gpu *g, unsigned *n) { DEV(g); *n = g->idx / ((NG + NUMA - 1) / NUMA); return ul(OK); }
X int nvmlDeviceGetMigMode(gpu *g, unsigned *c, unsigned *p) { DEV(g); if (g->parent) return ul(NOTSUP); *c = *p = g->mig > 0; return ul(OK); }
X int nvmlDeviceGetMaxMigDeviceCount(gpu *g, unsigned *n) { DEV(g); *n = g->parent ? 0 : MAXM; return ul(OK); }
X int nvmlDeviceGetMigDeviceHandleByIndex(gpu *g, unsigned i, gpu **m) { DEV(g); if ((int)i >= g->mig) return ul(NOTFOUND); *m = &g->m[i]; return ul(OK); }
X int nvmlDeviceIsMigDeviceHandle(gpu *g, unsigned *y) { *y = g->parent != 0; return OK; }
X int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(gpu *g, gpu **p) { if (!g->parent) return INVAL; *p = g->parent; return OK; }
X int nvmlDeviceGetGpuInstanceId(gpu *g, unsigned *i) { DEV(g); if (!g->parent) return ul(INVAL); *i = 7 + g->mig_idx; return ul(OK); }
X int nvmlDeviceGetComputeInstanceId(gpu *g, unsigned *i) { DEV(g); if (!g->parent) return ul(INVAL); *i = 0; return ul(OK); }
typedef struct { unsigned sm, ce, dec, enc, jpg, ofa, gslice, cslice; unsigned long long mb; } attrs;
X int nvmlDeviceGetAttributes_v2(gpu *g, attrs *a) { DEV(g); if (!g->parent) return ul(NOTSUP); memset(a, 0, sizeof *a); a->sm = 14; a->gslice = a->cslice = 1; a->mb = g->mem >> 20; return ul(OK); }
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } pinfo;
X int nvmlDeviceGetComputeRunningProcesses_v3(gpu *g, unsigned *n, pinfo *p) { DEV(g); unsigned have = *n; *n = g->nproc; if (!g->nproc) return ul(OK); if (have < (unsigned)g->nproc || !p) return ul(SMALL);
    for (int i = 0; i < g->nproc; i++) p[i] = (pinfo){ g->p[i].pid, g->p[i].bytes, 0xffffffffu, 0xffffffffu }; return ul(OK); }
X int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu *g, unsigned *n, pinfo *p) { (void)p; DEV(g); *n = 0; return ul(OK); }
X int nvmlDeviceGetEccMode(gpu *g, unsigned *c, unsigned *p) { DEV(g); *c = *p = 1; return ul(OK); }
X int nvmlDeviceGetTotalEccErrors(gpu *g, unsigned t, unsigned c, unsigned long long *n) { (void)c; DEV(g); *n = t == 1 ? g->ecc : 0; return ul(OK); }
X int nvmlDeviceGetMemoryErrorCounter(gpu *g, unsigned t, unsigned c, unsigned l, unsigned long long *n) { (void)c; (void)l; DEV(g); *n = t == 1 ? g->ecc : 0; return ul(OK); }
X int nvmlDeviceGetRemappedRows(gpu *g, unsigned *a, unsigned *b, unsigned *p, unsigned *f) { DEV(g); *a = 0; *b = g->remap; *p = g->remap > 0; *f = g->remap_failed; return ul(OK); }
X int nvmlDeviceGetRetiredPagesPendingStatus(gpu *g, unsigned *p) { DEV(g); *p = g->retire; return ul(OK); }
X int nvmlDeviceGetAccountingMode(gpu *g, unsigned *m) { DEV(g); *m = 0; return ul(OK); }
typedef struct { long last; unsigned long long mask[MAXG]; } eset;
typedef struct { gpu *d; unsigned long long type, data; unsigned gi, ci; } edata;
X int nvmlEventSetCreate(eset **s) { lk(); *s = calloc(1, sizeof **s); for (int i = 0; i < NE; i++) if (E[i].seq > (*s)->last) (*s)->last = E[i].seq; return ul(OK); }   /* only events after creation */
X int nvmlEventSetFree(eset *s) { free(s); return OK; }
X int nvmlDeviceGetSupportedEventTypes(gpu *g, unsigned long long *t) { DEV(g); *t = g->no_events ? 0 : 1 | 2 | 8 | 16; return ul(OK); }
X int nvmlDeviceRegisterEvents(gpu *g, unsigned long long t, eset *s) { DEV(g); s->mask[g->idx] |= t; return ul(OK); }
X int nvmlEventSetWait_v2(eset *s, edata *d, unsigned ms) {
    struct timespec t = { 0, 5000000 }; struct timespec t0, t1; clock_gettime(CLOCK_MONOTONIC, &t0);
    for (;;) { hang(); lk(); ev *best = 0;
        for (int i = 0; i < NE; i++) if (E[i].seq > s->last && E[i].gpu >= 0 && E[i].gpu < MAXG && (s->mask[E[i].gpu] & E[i].type) && (!best || E[i].seq < best->seq)) best = &E[i];
        if (best) { s->last = best->seq; *d = (edata){ &G[best->gpu], best->type, best->data, 0xffffffffu, 0xffffffffu }; return ul(OK); }
        ul(OK); clock_gettime(CLOCK_MONOTONIC, &t1); if ((t1.tv_sec - t0.tv_sec) * 1000 + (t1.tv_nsec - t0.tv_nsec) / 1000000 >= (long)ms) return TIMEOUT; nanosleep(&t, 0); }
}
