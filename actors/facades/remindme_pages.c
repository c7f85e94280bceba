/* What is the same for everybody: the list of routes, and three pages without outside assets. */
#include "actors/facades/remindme.h"

#define PAGE(title, body)                                                                                      \
    "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>RemindMe: " title "</title>"              \
    "<meta name=\"viewport\" content=\"width=device-width\">"                                                  \
    "<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em}"                       \
    "label,textarea,input[type=text],input[type=email],input[type=password]{display:block;width:100%}</style>" \
    "<h1>" title "</h1>" body "</html>"

/* The form goes out as the browser encodes it; what comes back is shown, or the list is. */
#define ENTRY(path, fields, button, other)                                                                            \
    "<form method=\"post\" action=\"" path "\">" fields "<button>" button "</button></form><p id=\"said\"></p>" other \
    "<script>document.forms[0].onsubmit=async e=>{e.preventDefault();"                                                \
    "const r=await fetch(e.target.action,{method:'POST',body:new URLSearchParams(new FormData(e.target))});"          \
    "if(r.ok)location='/';else document.getElementById('said').textContent=await r.text()}</script>"
#define FIELD(type, name, label) "<label>" label "<input required type=\"" type "\" name=\"" name "\"></label>"

static const char login_page[] =
    PAGE("Sign in",
         ENTRY("/api/user-login/", FIELD("text", "username", "Username") FIELD("password", "password", "Password"),
               "Sign in", "<p><a href=\"/register/\">Sign up</a></p>"));
static const char register_page[] =
    PAGE("Sign up", ENTRY("/api/user-register/",
                          FIELD("text", "username", "Username") FIELD("email", "email", "Email")
                              FIELD("password", "password", "Password"),
                          "Sign up", "<p><a href=\"/login/\">Sign in</a></p>"));
static const char home_page[] = PAGE(
    "Reminders",
    "<p><a href=\"/login/\">Sign in</a> <a href=\"/register/\">Sign up</a> <a href=\"#\" id=\"out\">Sign out</a></p>"
    "<form method=\"post\" action=\"/api/task-create/\"><label>Title<input required type=\"text\" "
    "name=\"title\"></label>"
    "<label>Description<textarea name=\"content\"></textarea></label>"
    "<label><input type=\"checkbox\" name=\"public\"> public</label><button>Remind me</button></form>"
    "<p id=\"said\"></p><ul id=\"list\"></ul>"
    "<script>const at=i=>document.getElementById(i),post=(u,b)=>fetch(u,{method:'POST',body:b});"
    "async function show(){const r=await fetch('/api/task-list/');"
    "if(!r.ok){at('said').textContent=(await r.json()).detail;return}"
    "at('said').textContent='';at('list').textContent='';for(const t of await r.json()){"
    "const l=document.createElement('li'),c=document.createElement('input'),d=document.createElement('button');"
    "c.type='checkbox';c.checked=t.completed;c.onchange=()=>post('/api/task-update/'+t.id+'/',"
    "new URLSearchParams({title:t.title,content:t.content,public:t.public,completed:c.checked})).then(show);"
    "d.textContent='delete';d.onclick=()=>fetch('/api/task-delete/'+t.id+'/',{method:'DELETE'}).then(show);"
    "l.append(c,' '+t.title+' ('+t.created_by+') '+t.content+' ',d);at('list').append(l)}}"
    "document.forms[0].onsubmit=async e=>{e.preventDefault();"
    "await post(e.target.action,new URLSearchParams(new FormData(e.target)));e.target.reset();show()};"
    "at('out').onclick=()=>post('/api/user-logout/').then(show);show()</script>");

static enum err page(struct script *s, const char *text)
{
    facade_text(s->reply, 200, "text/html; charset=utf-8", text);
    /* In no frame: a password is typed here, and a click deletes. The first is for browsers that know no policy. */
    buf_add_lit(&s->reply->headers, "X-Frame-Options: DENY\r\nContent-Security-Policy: frame-ancestors 'none'\r\n");
    return script_done(s);
}

static enum err home(struct script *s)
{
    return page(s, home_page);
}

static enum err login(struct script *s)
{
    return page(s, login_page);
}

static enum err register_(struct script *s)
{
    return page(s, register_page);
}

static enum err routes(struct script *s)
{
    facade_text(s->reply, 200, "application/json",
                "{\"List\":\"/task-list/\",\"Detail View\":\"/task-detail/<str:pk>/\",\"Create\":\"/task-create/\","
                "\"Update\":\"/task-update/<str:pk>/\",\"Delete\":\"/task-delete/<str:pk>/\","
                "\"Register\":\"/user-register/\",\"Login\":\"/user-login/\",\"Logout\":\"/user-logout/\","
                "\"Current User\":\"/current-user/\"}");
    return script_done(s);
}

const struct step remindme_home_steps[] = {{"page", home, false}, {0}};
const struct step remindme_login_page_steps[] = {{"page", login, false}, {0}};
const struct step remindme_register_page_steps[] = {{"page", register_, false}, {0}};
const struct step remindme_routes_steps[] = {{"routes", routes, false}, {0}};
