/* Structured log lines on standard error:
 *
 *     2026-11-22T18:42:07.123456Z warning link peer=a@host frame of 99 bytes is malformed
 *
 * time (UTC), level, area (the file or subsystem), text. One line is one write(2), so that lines of several
 * threads never mix; newlines and control characters in the text are escaped. Of a text that is too long for that
 * (PIPE_BUF) the line says how much is missing. Any thread, no lock.
 *
 * A reader that does not read holds nobody up: after a fifth of a second lines are dropped, and counted in the first
 * one that is taken again. */
#ifndef PYN_BASE_LOG_H
#define PYN_BASE_LOG_H

#include "base/defs.h"

enum pyn_level { PYN_DEBUG, PYN_INFO, PYN_NOTICE, PYN_WARNING, PYN_ERROR, PYN_OFF };

void pyn_log_set_level(enum pyn_level lowest);
bool pyn_log_enabled(enum pyn_level level);
/* "debug", "info", "notice", "warning", "error", "off" to a level; false for any other word. */
PYN_MUSTCHECK bool pyn_log_parse_level(const char *word, enum pyn_level *level);
const char *pyn_log_level_name(enum pyn_level level);
void pyn_log(enum pyn_level level, const char *area, const char *fmt, ...) PYN_PRINTF(3, 4);
/* A text that is to be lost in no part: one that is too long for a line comes as several, with "part=1/3 " before the
 * first. before: what stands in front of each, at most 90 bytes. */
void pyn_log_text(enum pyn_level level, const char *area, const char *before, const char *text);

#endif
