-- How much of all ratings comes from the most active tenth of the users?
with ranked as (

    select
        rating_count,
        ntile(10) over (order by rating_count desc, user_key asc) as decile
    from {{ ref('dim_users') }}
    where rating_count > 0 and edition != 'streaming'

)

select
    decile,
    count(*) as users,
    sum(rating_count) as ratings,
    round(sum(rating_count) / sum(sum(rating_count)) over (), 4) as share
from ranked
group by decile
order by decile
