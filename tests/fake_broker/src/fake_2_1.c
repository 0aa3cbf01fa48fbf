/* Functions that a 2.1 broker has and a 2.0 broker has not. */
#include "fake.h"

struct mosquitto *mosquitto_client(const char *client_id);
void mosquitto_complete_basic_auth(const char *client_id, int result);
int fake_2_1_is_linked(void);

struct mosquitto *mosquitto_client(const char *client_id)
{
	return fake_by_id(client_id);
}

void mosquitto_complete_basic_auth(const char *client_id, int result)
{
	fake_complete(client_id, result);
}

/* Called by the program that needs this file linked. */
int fake_2_1_is_linked(void)
{
	return 1;
}
