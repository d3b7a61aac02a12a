/* Memory of the harness itself. The linker keeps it apart, so that it is never counted as the
 * network's. Mach-O wants another spelling of section names; there the host counts nothing anyway. */
#ifndef TINYHIL_INSTRUMENTATION_H
#define TINYHIL_INSTRUMENTATION_H

#ifdef __APPLE__
#define INSTRUMENTATION
#elif defined(__arm__)
#define INSTRUMENTATION __attribute__((section(".instrumentation")))
#else
#define INSTRUMENTATION
#endif

#endif
