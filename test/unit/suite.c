#include "unit/suite.h"

static int finish(SRunner *r)
{
    int failed;

    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}

int suite_run(Suite *s)
{
    return finish(srunner_create(s));
}

int suite_run_here(Suite *s)
{
    SRunner *r = srunner_create(s);

    srunner_set_fork_status(r, CK_NOFORK);
    return finish(r);
}
