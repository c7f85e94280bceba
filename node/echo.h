/* `belfry echo`: the bare HTTP stack, for measuring. Any method on any path is 200 with the body
 * echoed; without a body, --body-bytes of text. */
#ifndef BELFRY_ECHO_H
#define BELFRY_ECHO_H

int echo_main(int argc, char **argv);

#endif
