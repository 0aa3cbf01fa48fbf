/* A plugin that admits every client, and after a SIGHUP refuses every client that the broker asks about again.
 * It shows what this does to the broker without our plugin. */
#include <stdbool.h>

#include "plugin.h"

static bool reloaded;

static int reload(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	reloaded = true;
	return MOSQ_ERR_SUCCESS;
}

static int tick(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	reloaded = false;
	return MOSQ_ERR_SUCCESS;
}

static int basic_auth(int event, void *data, void *userdata)
{
	(void)event;
	(void)data;
	(void)userdata;
	return reloaded ? MOSQ_ERR_AUTH : MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	mosquitto_callback_register(id, MOSQ_EVT_RELOAD, reload, NULL, NULL);
	mosquitto_callback_register(id, MOSQ_EVT_TICK, tick, NULL, NULL);
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, basic_auth, NULL, NULL);
}
